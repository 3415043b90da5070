"""The demonstration keeps to its own directory, runs alone in it, and ends in order when it is told to end."""

import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from controller.cli.app import run
from controller.cli.lab import demonstration
from controller.cli.rollouts import watch
from controller.cli.session import Session
from controller.domain.errors import Permanent
from controller.lab.guests import Guest, GuestPlan

Captured = pytest.CaptureFixture[str]
PLAN = GuestPlan(guests=(Guest(name="a", architecture="x86_64", memory_mib=1536),), message="1 guest")


@pytest.fixture(autouse=True)
def no_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_images(*_: Any) -> None:
        raise Permanent("nothing is prepared in this test")

    monkeypatch.setattr(demonstration, "plan_fleet", lambda *_: PLAN)
    monkeypatch.setattr(demonstration, "prepare", no_images)


def demo(directory: Path) -> int:
    return run(["lab", "demo", "--dir", str(directory)])


def test_a_second_demonstration_in_the_same_directory_is_refused(tmp_path: Path, capsys: Captured) -> None:
    directory = tmp_path / "demo"
    with (tmp_path / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert demo(directory) == 6
    assert f"a demonstration runs in {directory} already" in capsys.readouterr().err
    assert demo(directory) == 1


def test_a_directory_with_other_files_is_not_emptied(tmp_path: Path, capsys: Captured) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").touch()
    (home / "controller.log").touch()
    assert demo(home) == 6
    assert "(thesis.tex): give --dir a new directory" in capsys.readouterr().err
    assert sorted(path.name for path in home.iterdir()) == ["controller.log", "thesis.tex"]


def test_what_an_earlier_demonstration_left_goes(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    (directory / "reports").mkdir(parents=True)
    (directory / "swap-table.yaml").touch()
    assert demo(directory) == 1
    assert not directory.exists()


def test_a_file_is_no_directory(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "demo").touch()
    assert demo(tmp_path / "demo") == 6
    assert demo(tmp_path / "demo" / "below") == 1
    assert "--dir" in capsys.readouterr().err
    assert (tmp_path / "demo").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_an_interruption_does(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(demonstration, "prepare", lambda *_: os.kill(os.getpid(), number))
    assert demo(tmp_path / "demo") == 130
    assert signal.getsignal(number) == before


def test_an_interrupted_watch_ends_the_story_and_not_only_the_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "_follow", interrupted)
    session = Session(address="127.0.0.1:1", client_dir=None, insecure=True, output="text", now=lambda: 0.0)
    with pytest.raises(KeyboardInterrupt):
        watch.follow(session, "swap-table", settled_is_enough=True, timeout_s=1.0, wanted="promoted")
    assert watch.watch(session, "swap-table", settled_is_enough=True, timeout_s=1.0, wanted="promoted") == 130
