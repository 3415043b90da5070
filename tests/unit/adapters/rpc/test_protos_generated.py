"""The committed protobuf and gRPC modules are what the .proto files generate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
GENERATION_TIMEOUT_S = 120


def generated_below(root: Path) -> dict[str, str]:
    """Return the text of every generated module by its path below `root`."""
    found = [path for pattern in GENERATED for path in (root / "protos").rglob(pattern)]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in found}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Generate everything anew in an empty folder."""
    out = tmp_path_factory.mktemp("protos")
    # The mypy plugins are scripts beside the interpreter, which need not be on PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *map(str, SOURCES)]
    command += [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=GENERATION_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return generated_below(out)


def test_there_is_a_contract() -> None:
    assert SOURCES


def test_the_same_modules_are_committed(fresh: dict[str, str]) -> None:
    assert sorted(generated_below(ROOT)) == sorted(fresh), "run make proto and commit what it makes"


def test_they_have_the_same_content(fresh: dict[str, str]) -> None:
    committed = generated_below(ROOT)
    stale = [name for name, content in fresh.items() if committed.get(name) != content]
    assert not stale, "run make proto and commit what it makes"
