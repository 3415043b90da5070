"""What is armed is looked at until it boots: a change that nobody asked for takes it back, and is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from booted_host import BootedHost, own_loader, stand_in

from agent.boot import circumstances, main
from agent.boot.trial import book, guard
from agent.boot.values import BrokenHost, Refusal

TIMER = "/run/kernroll-boot.started.kernroll-armed.timer"
APT_RULES = "/etc/apt/apt.conf.d/zz-kernroll"


class PackagedHost(BootedHost):
    """Its kernels are Debian's packages, one each."""

    marked = ("linux-image-1.0", "linux-image-2.0")
    superfluous: tuple[str, ...] = ()

    def has(self, tool: str) -> bool:
        return tool in ("dpkg-query", "apt-get", "apt-mark")

    def run(self, *command: str) -> str:
        match command:
            case ("dpkg-query", "--search", path):
                if not path.startswith("/boot/vmlinuz-"):
                    raise BrokenHost(f"dpkg-query --search {path} failed with code 1: no path found")
                return f"linux-image-{path.removeprefix('/boot/vmlinuz-')}: {path}\n"
            case ("apt-mark", "showmanual", *names):
                return "".join(f"{one}\n" for one in names if one in self.marked)
            case ("apt-get", "--simulate", "--quiet", "autoremove"):
                return "".join(f"Remv {one} [1]\n" for one in ("libc6:amd64", *self.superfluous))
        return super().run(*command)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedHost:
    """A host on which 2.0 may be armed."""
    made = PackagedHost(tmp_path, own_loader("1.0", "2.0"))
    stand_in(made, monkeypatch)
    made.write("/var/lib/dpkg/status", "")
    made.write(APT_RULES, 'APT::NeverAutoRemove { "^linux-image-1"; };\n')
    guard.begin(made)
    return made


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = main.main([*arguments, "--output", "json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (1 if found.get("error") else 0), found
    return found


def test_what_is_as_it_was_stays_armed_and_boots(host: PackagedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "arm", "2.0")["next"] == "2.0"
    assert host.path(TIMER).exists()
    for _ in range(3):
        host.clock_s += 600.0
        assert ask(capsys, "recheck")["next"] == "2.0"
    ask(capsys, "reboot")
    assert host.goes_down


def test_what_the_power_has_booted_is_not_rebooted_when_that_is_asked_for(
    host: PackagedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, "arm", "2.0")
    # The power fails before anybody has written down that the host is to reboot, and the loader boots what is armed.
    host.boot(host.loader.boots())
    guard.begin(host)
    assert host.release == "2.0"
    for _ in range(2):
        trial = ask(capsys, "reboot", "--command-id=u/a/1.reboot.0")["boots"][-1]
        assert (trial["cause"], trial["command_id"], trial["end"]) == ("trial", "u/a/1.reboot.0", "")
        assert not host.goes_down
    # Whoever asks for another one, or says no name, means it.
    ask(capsys, "reboot", "--command-id=u/a/2.reboot.0")
    assert host.goes_down


def rewritten(host: PackagedHost) -> None:
    host.write("/boot/vmlinuz-2.0", "another kernel")


def fallback_rewritten(host: PackagedHost) -> None:
    host.write("/boot/vmlinuz-1.0", "another kernel")


def removed(host: PackagedHost) -> None:
    host.path("/boot/vmlinuz-1.0").unlink()


def other_arguments(host: PackagedHost) -> None:
    entries = tuple(replace(one, arguments=(*one.arguments, "quiet")) for one in host.loader.state.entries)
    host.loader.state = replace(host.loader.state, entries=entries)


def other_default(host: PackagedHost) -> None:
    host.loader.state = replace(host.loader.state, default="2.0")


def unpinned(host: PackagedHost) -> None:
    host.loader.state = replace(host.loader.state, pinned=False)


def not_armed(host: PackagedHost) -> None:
    host.loader.state = replace(host.loader.state, next="")


def unmarked(host: PackagedHost) -> None:
    host.marked = ("linux-image-2.0",)


def unruled(host: PackagedHost) -> None:
    host.path(APT_RULES).unlink()


def too_old(host: PackagedHost) -> None:
    host.clock_s += 3601.0


def unreadable(host: PackagedHost) -> None:
    host.marked = ()
    host.path("/boot/vmlinuz-2.0").unlink()
    host.path("/boot/vmlinuz-2.0").mkdir()


CHANGES: list[tuple[Callable[[PackagedHost], None], str]] = [
    (rewritten, "/boot/vmlinuz-2.0 is not as it was when 2.0 was armed"),
    (fallback_rewritten, "/boot/vmlinuz-1.0 is not as it was when 2.0 was armed"),
    (removed, "/boot/vmlinuz-1.0 was there when 2.0 was armed, and is not there now"),
    (other_arguments, "the command line of 1.0 is not as it was when 2.0 was armed"),
    (other_default, "the default was 1.0 when 2.0 was armed, and is 2.0 now"),
    (unpinned, "the default was 1.0 when 2.0 was armed, and is 1.0 now"),
    (not_armed, "2.0 was armed, and nothing is now"),
    (unmarked, "the mark of linux-image-1.0 as wanted is not as it was when 2.0 was armed"),
    (unruled, f"{APT_RULES} is not as it was when 2.0 was armed"),
    (too_old, "2.0 was armed for 3600 s, and has not been booted in that time"),
    (unreadable, "/boot/vmlinuz-2.0 was there when 2.0 was armed, and is not there now"),
]


@pytest.mark.parametrize("verb", ["recheck", "reboot"])
@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_a_foreign_change_takes_back_what_was_armed(
    host: PackagedHost, capsys: pytest.CaptureFixture[str], change: Callable[[PackagedHost], None], told: str, verb: str
) -> None:
    ask(capsys, "arm", "2.0")
    change(host)
    found = ask(capsys, verb)
    assert host.loader.state.next == ""
    kept = json.loads(host.text("/var/lib/kernroll-boot/status.json") or "")
    assert (kept["withdrawn"], kept["armed_kernel"]) == (told, "")
    if verb == "reboot":
        assert found["error"].startswith(f"{told}; nothing is armed any more, and the host was not rebooted")
    # Whoever wants it to boot is told why it does not, however often it is asked.
    for _ in range(2):
        assert ask(capsys, "reboot", "--command-id=c")["error"].startswith(f"{told}; nothing is armed any more")
    assert not host.goes_down
    # Looked at once more, nobody has to look again.
    ask(capsys, "recheck")
    assert not host.path(TIMER).exists()


def test_a_refusal_that_came_since_takes_it_back_as_well(
    host: PackagedHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(capsys, "arm", "2.0")
    new = Refusal(code="boot-counter", cause="boot_counter is set", remedy="unset it")
    monkeypatch.setattr(circumstances, "refusals", lambda *_: iter((new,)))
    assert ask(capsys, "recheck")["withdrawn"] == "since 2.0 was armed, boot_counter is set (unset it)"


def test_who_takes_it_back_on_purpose_reboots_into_the_default(
    host: PackagedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, "arm", "2.0")
    rewritten(host)
    ask(capsys, "recheck")
    assert "once:     nothing any more: /boot/vmlinuz-2.0 is not" in shown(capsys)
    assert ask(capsys, "disarm")["withdrawn"] == ""
    ask(capsys, "reboot")
    assert host.goes_down


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(["status"]) == 0
    return capsys.readouterr().out


def test_armed_again_it_is_the_new_file_that_counts(host: PackagedHost, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "arm", "2.0")
    rewritten(host)
    ask(capsys, "recheck")
    found = ask(capsys, "arm", "2.0", "--armed-for", "7200")
    assert (found["next"], found["withdrawn"]) == ("2.0", "")
    too_old(host)
    assert ask(capsys, "recheck")["next"] == "2.0"


def test_a_boot_in_between_ends_it_without_a_word(host: PackagedHost, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "arm", "2.0")
    rewritten(host)
    ask(capsys, "recheck")
    host.boot("1.0")
    guard.begin(host)
    assert book.read(host).withdrawn == ""
    ask(capsys, "reboot")
    assert host.goes_down


def test_a_kernel_that_apt_would_remove_is_not_armed(host: PackagedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.superfluous = ("linux-image-1.0",)
    told = ask(capsys, "arm", "2.0")["error"]
    assert told == (
        "apt takes linux-image-1.0 for superfluous, and would remove a kernel that must stay "
        "(apt-mark manual linux-image-1.0)"
    )
    assert (host.loader.state.next, book.read(host).trial) == ("", None)


def test_a_kernel_of_no_package_is_held_by_nobody(host: PackagedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.path("/var/lib/dpkg/status").unlink()
    host.superfluous = ("linux-image-1.0",)
    assert ask(capsys, "arm", "2.0")["next"] == "2.0"


def test_nothing_is_armed_where_nobody_would_look(
    host: PackagedHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(unit: str) -> None:
        raise BrokenHost(f"Unit {unit} not found.")

    monkeypatch.setattr(host, "start", fails)
    assert main.main(["arm", "2.0"]) == 3
    assert "install kernroll-armed.timer and its service" in capsys.readouterr().err
    assert (host.loader.state.next, book.read(host).trial) == ("", None)


def test_a_loader_that_cannot_be_read_any_more_is_told(
    host: PackagedHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(capsys, "arm", "2.0")

    def fails() -> None:
        raise BrokenHost("the menu is gone")

    monkeypatch.setattr(host.loader, "read", fails)
    assert main.main(["recheck"]) == 3
    assert "what boots cannot be told any more: the menu is gone" in capsys.readouterr().err
    # Whatever boots then is guarded.
    assert book.read(host).trial is not None
    assert host.loader.state.next == ""


def test_a_trial_of_an_older_program_is_booted_by_what_that_wrote_down(
    host: PackagedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, "arm", "2.0")
    saved = json.loads(host.text("/var/lib/kernroll-boot/boots.json") or "")
    for name in ("armed_s", "armed_for_s", "sealed"):
        del saved["trial"][name]
    del saved["withdrawn"]
    for boot in saved["boots"]:
        del boot["watchdog"]
    host.write("/var/lib/kernroll-boot/boots.json", json.dumps(saved))
    too_old(host)
    assert ask(capsys, "recheck")["next"] == "2.0"
