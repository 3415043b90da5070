"""The example of docs/gate.md runs, and shows what it says."""

import re

import pytest
from project import ROOT

DOCUMENT = ROOT / "docs" / "gate.md"


def test_the_example_from_arrays_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"### From arrays\n.*?```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    exec(compile(example, str(DOCUMENT), "exec"), {})
    printed = capsys.readouterr().out
    assert "host pairs, margin 3 %" in printed
    assert re.search(r"^(PASS|MARGINAL) look \d", printed, re.M)
    assert re.search(r"^FAIL look \d", printed, re.M)
