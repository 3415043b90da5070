"""The guard of a kernel on trial, on a host whose clock and whose network are ours."""

from dataclasses import replace
from pathlib import Path

import pytest
from booted_host import BootedHost, own_loader, stand_in

from agent.boot.trial import book, guard, ledger
from agent.boot.trial.ledger import Asked, Cause, End, Trial
from agent.boot.trial.network import Standing


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BootedHost:
    """A host that has just booted the kernel on trial."""
    made = BootedHost(tmp_path, own_loader("1.0", "2.0"))
    stand_in(made, monkeypatch)
    guard.begin(made)
    trial = Trial(kernel="b" * 64, release="2.0", boot_timeout_s=100.0, probation_timeout_s=50.0, patience_s=1_000.0)
    armed = ledger.armed(book.read(made), trial)
    book.write(made, ledger.asked_to_boot(armed, Asked(cause=Cause.TRIAL, command_id="c", boot_id=made.boot_id)))
    made.boot("2.0")
    return made


def stands(monkeypatch: pytest.MonkeyPatch, where: Standing) -> None:
    monkeypatch.setattr(guard, "standing", lambda _host: where)


def guarded(host: BootedHost) -> None:
    guard.keep(host, guard.begin(host))


def ending(host: BootedHost) -> End | None:
    found = book.read(host).ending
    return found.end if found else None


@pytest.mark.parametrize("where", [Standing.NO_NETWORK, Standing.CONTROLLER_THERE])
def test_a_kernel_under_which_nobody_is_heard_is_left_at_its_deadline(
    host: BootedHost, monkeypatch: pytest.MonkeyPatch, where: Standing
) -> None:
    stands(monkeypatch, where)
    guarded(host)
    assert (host.restarts, host.uptime_s(), ending(host)) == (1, 100.0, End.NOT_ACKNOWLEDGED)


def test_a_controller_that_is_away_costs_no_kernel_its_trial(host: BootedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_AWAY)
    host.events[900.0] = lambda: book.write(host, ledger.acknowledged(book.read(host), host.uptime_s()))
    host.events[940.0] = lambda: book.write(host, ledger.blessed(book.read(host)))
    guarded(host)
    assert (host.restarts, host.uptime_s()) == (0, 940.0)


def test_even_then_it_is_left_at_the_end(host: BootedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_AWAY)
    guarded(host)
    assert (host.restarts, host.uptime_s(), ending(host)) == (1, 1_100.0, End.NOT_ACKNOWLEDGED)


def test_an_agent_that_does_not_run_is_not_waited_for(host: BootedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_AWAY)
    host.agent_runs = False
    guarded(host)
    assert (host.restarts, host.uptime_s()) == (1, 100.0)


def test_a_kernel_that_is_not_blessed_in_time_is_left(host: BootedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_THERE)
    host.events[60.0] = lambda: book.write(host, ledger.acknowledged(book.read(host), host.uptime_s()))
    guarded(host)
    assert (host.restarts, host.uptime_s(), ending(host)) == (1, 110.0, End.NOT_BLESSED)


def test_a_blessing_that_was_interrupted_half_way_counts(host: BootedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_THERE)
    host.loader.state = replace(host.loader.state, default="2.0")
    guarded(host)
    assert (host.restarts, book.read(host).trial) == (0, None)


def test_a_disk_that_cannot_be_written_keeps_nobody_from_going_back(
    host: BootedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands(monkeypatch, Standing.NO_NETWORK)
    host.full = True
    guarded(host)
    assert (host.restarts, host.uptime_s()) == (1, 100.0)


def test_nothing_is_guarded_where_nothing_is_on_trial(host: BootedHost) -> None:
    host.boot("1.0")
    guarded(host)
    assert (host.restarts, host.uptime_s()) == (0, 0.0)
    assert [one.cause for one in book.read(host).boots] == [Cause.INITIAL, Cause.TRIAL, Cause.FALLBACK]


def test_a_guard_that_is_stopped_says_that_the_kernel_is_not_at_fault(host: BootedHost) -> None:
    guard.begin(host)
    guard.stop(host)
    host.boot("1.0")
    guarded(host)
    assert book.read(host).boots[-2].end == "stopped"


def test_a_trial_is_written_down_with_the_watchdog_that_is_open_under_it(host: BootedHost) -> None:
    host.path("/proc/1/fd").mkdir(parents=True)
    host.path("/proc/1/fd/9").symlink_to("/dev/watchdog0")
    guard.begin(host)
    assert [one.watchdog for one in book.read(host).boots] == [None, "watchdog0"]


def test_a_trial_that_a_watchdog_ended_is_told_so(host: BootedHost) -> None:
    guard.begin(host)
    host.write("/sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n")
    host.write("/sys/class/watchdog/watchdog0/bootstatus", "32\n")
    host.boot("1.0")
    guard.begin(host)
    trial = book.read(host).boots[-2]
    assert (trial.end, trial.line) == ("reset", "the watchdog iTCO_wdt reset the machine")
