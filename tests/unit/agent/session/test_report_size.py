"""No report is larger than a controller takes, and what is left out of one is told."""

from pathlib import Path

import pytest

from agent.adapters.state.spool import ReportSpool
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, Sample, WorkloadRun
from agent.domain.session.report_size import MOST_EVIDENCE_BYTES, MOST_SENTENCE_BYTES, MOST_TEXT_BYTES, cut, fitted
from agent.resident.outbox import Outbox
from controller.main import MESSAGE_BYTES
from protos.kernroll.v1 import agent_pb2

# More than any workload tells.
SAMPLES = tuple(
    Sample(metric=f"some_workload.some_quite_long_metric_{n}", value=1.5, unit="MiB/TiB") for n in range(500)
)


def run_with(evidence: dict[str, str], *, error: str = "") -> WorkloadRun:
    return WorkloadRun(
        workload="w", index=0, warmup=False, status=RunStatus.FAILED, error=error, samples=SAMPLES, evidence=evidence
    )


def message_bytes(root: Path, body: WorkloadRun | CommandOutcome) -> int:
    outbox = Outbox(host="h", boot_id="boot-1", spool=ReportSpool(root), now=lambda: 1000.0)
    outbox.report("r", "c", body)
    content = outbox.spool.content(1)
    assert content is not None
    return agent_pb2.AgentMessage(report=agent_pb2.Report.FromString(content)).ByteSize()


@pytest.mark.parametrize("texts", [1, 6, 7, 40, 1000])
@pytest.mark.parametrize("letter", ["x", "ß", "龍"])
def test_however_much_a_run_tells_a_controller_takes_it(tmp_path: Path, texts: int, letter: str) -> None:
    evidence = {f"text_{number}": letter * (5 << 20) for number in range(min(texts, 8))}
    evidence |= {f"small_{number}": letter * 10_000 for number in range(texts - len(evidence))}
    size = message_bytes(tmp_path, run_with(evidence, error=letter * (5 << 20)))
    assert size < MESSAGE_BYTES
    outcome = CommandOutcome(status=OutcomeStatus.FAILED, detail=letter * (5 << 20))
    assert message_bytes(tmp_path / "other", outcome) < 2 * MOST_SENTENCE_BYTES


def test_at_the_limit_nothing_is_cut_and_above_it_as_much_as_is_too_much() -> None:
    whole = {f"text_{number}": "x" * MOST_TEXT_BYTES for number in range(MOST_EVIDENCE_BYTES // MOST_TEXT_BYTES)}
    run = run_with(whole, error="e" * MOST_SENTENCE_BYTES)
    assert fitted(run) == run
    more = fitted(run_with({**whole, "text_0": "x" * (MOST_TEXT_BYTES + 1)}))
    assert isinstance(more, WorkloadRun)
    text = more.evidence["text_0"]
    assert MOST_TEXT_BYTES - 10 < len(text) <= MOST_TEXT_BYTES
    left_out = MOST_TEXT_BYTES + 1 - text.count("x")
    assert text.endswith(f"x\n[{left_out} of {MOST_TEXT_BYTES + 1} bytes are left out]\n")
    assert {**more.evidence, "text_0": whole["text_0"]} == whole


def test_small_texts_stay_whole_beside_large_ones() -> None:
    evidence = {**{f"large_{number}": "x" * (1 << 20) for number in range(8)}, "small": "s" * 1000}
    run = fitted(run_with(evidence))
    assert isinstance(run, WorkloadRun)
    assert run.evidence["small"] == "s" * 1000
    assert list(run.evidence) == list(evidence)
    assert len({len(text) for name, text in run.evidence.items() if name != "small"}) <= 2
    assert sum(map(len, run.evidence.values())) > MOST_EVIDENCE_BYTES - 1000


def test_no_character_is_cut_in_the_middle() -> None:
    text = "龍" * 100
    for most_bytes in range(60, 100):
        short = cut(text, most_bytes)
        assert len(short.encode()) <= most_bytes
        kept = short.split("\n")[0]
        assert text.startswith(kept)
        assert f"[{300 - len(kept.encode())} of 300 bytes are left out]" in short
