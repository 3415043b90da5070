"""What `kernroll` does without a controller: help, examples, exit codes, completion, rollout files."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from patience import PATIENCE_S
from project import ROOT

from controller.cli.app import GROUPS, root, run
from controller.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from controller.domain.errors import Conflict, InvalidInput, NotFound, Permanent, Temporary
from controller.settings import Settings

Captured = pytest.CaptureFixture[str]
EXAMPLES = ROOT / "deploy" / "examples"
# Libraries that would make `kernroll --help` slow.
HEAVY = ("grpc", "scipy", "numpy", "sqlalchemy", "pydantic", "rich", "cryptography", "ruamel")


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(command)
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


COMMANDS = dict(leaves(root))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...], capsys: Captured) -> None:
    assert run([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"    kernroll {' '.join(path)}" in out or f"(kernroll {' '.join(path)}" in out
    assert "Examples:" in out


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[0] in ("hosts", "rollout")], ids=" ".join)
def test_every_command_that_reads_gives_json(path: tuple[str, ...]) -> None:
    assert any("--output" in option.opts for option in COMMANDS[path].params)


def test_the_root_lists_groups_and_every_exit_code(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in GROUPS:
        assert f"  {name} " in out
    for code, meaning in MEANINGS.items():
        assert f"  {code.value:<4}{meaning}" in out
    assert set(MEANINGS) == set(ExitCode)


def test_help_loads_nothing_heavy() -> None:
    check = (
        "import sys; from controller.cli.app import run; run(['--help']); run(['rollout', '--help']);"
        "run(['hosts', '--help']); run(['fleet', 'freeze', '--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stderr == "[]\n"


def test_a_call_loads_nothing_that_only_judging_needs() -> None:
    heavy = ("scipy", "numpy", "pydantic", "sqlalchemy", "cel_expr_python")
    check = (
        "import sys; from controller.cli.app import run;"
        "run(['--insecure', '--controller', '127.0.0.1:1', 'hosts', 'list']);"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("x"), 3),
        (Temporary("x"), 4),
        (NotFound("x"), 5),
        (Conflict("x"), 6),
        (Permanent("x"), 1),
    ],
)
def test_every_kind_of_error_has_its_code(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code  # type: ignore[arg-type]  # the parameters are all of our own errors


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["hosts", "list", "--nonsense"], ["hosts", "show"], ["rollout", "start", "f", "--timeout", "5"]],
)
def test_wrong_usage_is_code_2(arguments: list[str], capsys: Captured) -> None:
    assert run(arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_a_bug_of_ours_is_one_line(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERNROLL_DEBUG", raising=False)

    def broken() -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("controller.domain.spec.parse.spec_json_schema", broken)
    assert run(["spec", "schema"]) == 1
    said = capsys.readouterr().err
    assert said == "kernroll: a bug of ours: RuntimeError: surprise; KERNROLL_DEBUG=1 shows where\n"
    monkeypatch.setenv("KERNROLL_DEBUG", "1")
    assert run(["spec", "schema"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_command_is_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("controller.domain.spec.parse.spec_json_schema", interrupted)
    assert run(["spec", "schema"]) == 130


def test_a_reader_that_goes_away_is_no_failure_to_talk_about() -> None:
    script = "from controller.cli import main; main(['spec', 'schema'])"
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=write_end, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_spec_schema(capsys: Captured) -> None:
    assert run(["spec", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "kernroll Rollout"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("rollout-*.yaml")), ids=lambda file: file.name)
def test_spec_check_accepts_the_examples(file: Path, capsys: Captured) -> None:
    assert run(["spec", "check", str(file)]) == 0
    assert "is a valid rollout for" in capsys.readouterr().out


def test_spec_check_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    data = (EXAMPLES / "rollout-minimal.yaml").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run(["spec", "check", "-", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_bad_files_are_told_with_their_name(tmp_path: Path, capsys: Captured) -> None:
    bad, binary, large = tmp_path / "bad.yaml", tmp_path / "binary.yaml", tmp_path / "large.yaml"
    bad.write_text("apiVersion: kernroll/v1\nkind: Rollouts\n")
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_bytes(b"#" * (2 << 20))
    for file, said in (
        (tmp_path / "none.yaml", "none.yaml: no such file or directory"),
        (tmp_path, f"{tmp_path}: is a directory"),
        (bad, "bad.yaml:2: kind"),
        (binary, "binary.yaml: not UTF-8 text (byte 0)"),
        (large, "larger than 1048576 bytes"),
    ):
        for command in (["spec", "check"], ["rollout", "plan"], ["rollout", "start"]):
            if file is bad and command[0] == "rollout":
                continue
            assert run([*command, str(file)]) == 3
            assert said in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: Captured) -> None:
    assert run(["completion", shell]) == 0
    assert f"_KERNROLL_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_what_a_command_was_called_with_is_repeated_as_text_only(capsys: pytest.CaptureFixture[str]) -> None:
    run(["spec", "check", "\x1b[2J\u202e.yaml"])
    said = capsys.readouterr().err
    assert said.replace("\n", "").isprintable()


def test_an_empty_state_directory_is_no_directory() -> None:
    with pytest.raises(InvalidInput, match="--state-dir: is empty"):
        Settings(state_dir=Path(""))
