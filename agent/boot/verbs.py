"""What may be asked: each looks first, changes through the loader, and reads back what is then so."""

from collections.abc import Iterator
from dataclasses import replace

from agent.boot import choice, circumstances, rehearsal
from agent.boot.host import Host
from agent.boot.packages import held
from agent.boot.port import Loader
from agent.boot.signatures import refusals as signed
from agent.boot.values import BootError, BootState, Refusal
from agent.boot.watchdog import gaps

_CAME_BETWEEN = "another command came in between"


def refusals(host: Host) -> Iterator[Refusal]:
    """Yield why nothing may be risked on this host; nothing when it may."""
    try:
        loader = choice.loader_of(host)
    except BootError as error:
        yield Refusal(code="unknown-loader", cause=str(error), remedy="use a loader that is known, or leave it out")
        return
    found = list(loader.refusals())
    yield from found
    try:
        state = loader.read()
    except BootError as error:
        # The loader's own refusals say it already, or nothing does.
        if not found:
            yield Refusal(code="unreadable", cause=str(error), remedy="see to it that kernroll-boot status works")
        return
    yield from circumstances.refusals(host, loader, state)


def inspect(host: Host, release: str) -> Iterator[Refusal]:
    """Yield what keeps an installed kernel from starting here, or from taking the modules that this host runs.

    Raises BootError where that cannot be told.
    """
    entries = choice.loader_of(host).read().entries
    entry = next((one for one in entries if one.release == release and not one.recovery), None)
    yield from signed.refusals(host, release, entry)


def watchdog_gaps(host: Host) -> Iterator[Refusal]:
    """Yield what is missing for a kernel that hangs to be ended by a watchdog. None of it is a refusal by itself."""
    try:
        loader = choice.loader_of(host)
    except BootError:
        # Which is refused already.
        return
    yield from gaps.of_running(host, loader)


def pin(host: Host, _release: str) -> BootState:
    """Make the running kernel the default, whatever is installed from now on."""
    loader = choice.loader_of(host)
    rehearsal.give_up(host, _CAME_BETWEEN)
    loader.pin(loader.read().of_release(host.running_release))
    return loader.read()


def arm(host: Host, release: str, *, require_watchdog: bool = False) -> BootState:
    """Let a kernel boot once. Refused while anything speaks against coming back, or the default is not pinned.

    With `require_watchdog` also unless a watchdog would end a hang of this kernel.
    """
    loader = choice.loader_of(host)
    if found := list(refusals(host)):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    before, running = loader.read(), host.running_release
    if not before.pinned:
        raise BootError("a newly installed kernel could become the default: `kernroll-boot pin` first")
    if before.default != before.of_release(running).id:
        raise BootError("the running kernel is not the pinned default, and would not be booted again: pin it first")
    rehearsal.require(host, loader)
    entry = before.of_release(release)
    if missing := [name for name in entry.files if not host.path(name).is_file()]:
        raise BootError(f"{', '.join(missing)} is not there: install {release} again")
    if found := list(held.refusals(host, [running, release])):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    if found := list(signed.refusals(host, release, entry)):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    if require_watchdog and (found := list(gaps.of_kernel(host, loader, entry))):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    loader.set_next(entry)
    after = loader.read()
    if (after.default, after.pinned) != (before.default, before.pinned):
        loader.clear_next()
        raise BootError(f"the default changed from {before.default} to {after.default} while {release} was armed")
    return after


def rehearse(host: Host, _release: str) -> BootState:
    """Let the running kernel boot once, as a new one would; asked again after that boot, write down that it went well.

    Raises BootError when the host did not come back as it should: then nothing may be risked on it.
    """
    loader, running = choice.loader_of(host), host.running_release
    if found := list(refusals(host)):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    state, known = loader.read(), rehearsal.read(host)
    entry = state.of_release(running)
    if not state.pinned or state.default != entry.id:
        raise BootError("the running kernel is not the pinned default: `kernroll-boot pin` first")
    here, by = host.boot_id, rehearsal.boots_by(host, loader)
    if known is not None and known.is_pending and known.boot_id != here and known.boots_by == by:
        return _rehearsed(host, loader, known)
    # Armed before it is written down: what was never armed must not pass.
    loader.set_next(entry)
    rehearsal.keep(host, rehearsal.Rehearsal(boot_id=here, release=running, boots_by=by))
    return loader.read()


def _rehearsed(host: Host, loader: Loader, begun: rehearsal.Rehearsal) -> BootState:
    state, running, failed = loader.read(), host.running_release, ""
    if state.next:
        failed = (
            "the loader booted and did not clear what was armed for one boot, so that a kernel that panics would boot "
            "again and again"
        )
    elif running != begun.release:
        failed = f"{begun.release} was armed for one boot and {running} came up"
    elif state.booted and state.booted != (armed := state.of_release(running).id):
        failed = f"{armed} was armed for one boot, and the loader says that it booted {state.booted}"
    if failed:
        rehearsal.keep(host, replace(begun, failed=failed))
        loader.clear_next()
        raise BootError(f"{failed}; nothing is armed any more. Leave this host out until that is mended")
    rehearsal.keep(host, replace(begun, passed_at=host.now()))
    loader.clear_next()
    return loader.read()


def disarm(host: Host, _release: str) -> BootState:
    """Let nothing boot once."""
    loader = choice.loader_of(host)
    rehearsal.give_up(host, _CAME_BETWEEN)
    loader.clear_next()
    return loader.read()


def bless(host: Host, release: str) -> BootState:
    """Make the running kernel the default; `release` must be it."""
    loader, running = choice.loader_of(host), host.running_release
    if running != release:
        raise BootError(f"{running} runs and not {release}: only a kernel that runs can become the default")
    rehearsal.give_up(host, _CAME_BETWEEN)
    loader.clear_next()
    loader.pin(loader.read().of_release(release))
    return loader.read()


def revert(host: Host, release: str) -> BootState:
    """Make a kernel that is installed the default again, and let nothing else boot once."""
    loader = choice.loader_of(host)
    rehearsal.give_up(host, _CAME_BETWEEN)
    # The default first: whatever happens in between, the host boots one of the two.
    loader.pin(loader.read().of_release(release))
    loader.clear_next()
    return loader.read()
