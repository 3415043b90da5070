"""What was once found stays mended: every committed input is tried again, and so is the way in which they are tried."""

import random
import time
from pathlib import Path

import pytest
from drawing import Draw
from fuzz_one import Trial
from fuzz_targets import TARGETS
from promised import CORPUS, NotLinear, Target, entries, shrunk, signature, stretched, tried, tried_long
from run_fuzz import replay

from controller.domain.errors import InvalidInput
from protos.kernroll.v1 import agent_pb2, operator_pb2

_MOST_CORPUS_BYTES = 1 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_every_committed_input_keeps_what_is_promised(name: str) -> None:
    for entry, data in entries(TARGETS[name]).items():
        try:
            tried(TARGETS[name], data)
            if entry.startswith("slow-"):
                tried_long(TARGETS[name], data)
        except Exception as error:
            error.add_note(f"python tests/fuzz/run_fuzz.py --target {name} --replay tests/fuzz/corpus/{name}/{entry}")
            raise


def test_every_target_has_examples_and_the_corpus_is_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(entries(target) for target in TARGETS.values())
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < _MOST_CORPUS_BYTES


def _raising(error: Exception) -> Target:
    def run(data: bytes) -> None:
        if b"x" in data:
            raise error

    return Target(name="t", run=run, errors=(InvalidInput,))


def test_a_documented_error_is_no_finding_unless_its_words_do_harm() -> None:
    tried(_raising(InvalidInput("f:1: is wrong\nf:2: too")), b"x")
    for words in ("f:1: \x1b[2J", "a\u202eb", "", " \n"):
        with pytest.raises(AssertionError):
            tried(_raising(InvalidInput(words)), b"x")
    with pytest.raises(KeyError):
        tried(_raising(KeyError("k")), b"x")


def test_a_finding_is_made_small() -> None:
    target = _raising(KeyError("k"))
    data = random.Random(1).randbytes(200).replace(b"x", b"") + b"x"
    with pytest.raises(KeyError) as caught:
        tried(target, data)
    assert shrunk(target, data, signature(caught.value)) == b"x"


def test_a_finding_is_kept_once_with_its_traceback_and_can_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("corpus", "findings"):
        (tmp_path / folder).mkdir()
    target = _raising(KeyError("k"))
    trial = Trial(target, tmp_path)
    for data in (b"a", b"axb", b"xx"):
        trial.one(data)
    (found,) = (tmp_path / "findings").glob("*.input")
    assert found.read_bytes() == b"x"
    assert "KeyError: 'k'" in found.with_suffix(".txt").read_text()
    assert replay(target, found) == 1
    assert "KeyError" in capsys.readouterr().out
    # A later process knows it already.
    found.write_bytes(b"untouched")
    Trial(target, tmp_path).one(b"axb")
    assert found.read_bytes() == b"untouched"


def test_time_that_grows_faster_than_the_input_is_a_finding() -> None:
    def busy(rounds: int) -> None:
        until = time.thread_time() + rounds * 1e-6
        while time.thread_time() < until:
            pass

    linear = Target(name="t", run=lambda data: busy(12 * len(data)), stretched_bytes=1 << 15)
    quadratic = Target(name="t", run=lambda data: busy(len(data) ** 2 >> 10), stretched_bytes=1 << 15)
    tried_long(linear, b"abc")
    with pytest.raises(NotLinear):
        tried_long(quadratic, b"abc")


def test_an_input_is_made_long_in_one_piece_of_it() -> None:
    for data in (b"", b"a", b"abcdefgh", bytes(range(256))):
        long = stretched(data, 5000)
        assert 5000 <= len(long) < 5100
        assert long == stretched(data, 5000)
        assert long[:1] == data[:1] or not data


def test_any_bytes_make_a_message_of_any_kind() -> None:
    for kind in (agent_pb2.AgentMessage, agent_pb2.ControllerMessage, operator_pb2.Rollout):
        assert Draw(b"").message(kind).ByteSize() >= 0
        for seed in range(50):
            made = Draw(random.Random(seed).randbytes(300)).message(kind)
            kind.FromString(made.SerializeToString())
