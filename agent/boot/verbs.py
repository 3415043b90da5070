"""What may be asked: each looks first, changes through the loader, and reads back what is then so."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from agent.boot import circumstances, rehearsal
from agent.boot.grub.loader import Grub, is_there
from agent.boot.host import Host
from agent.boot.port import Loader
from agent.boot.values import BootError, BootState, Refusal


def loader_of(host: Host) -> Loader:
    """Return the host's boot loader; raises BootError for one that is not known here."""
    if is_there(host):
        return Grub(host)
    raise BootError(
        "no boot loader that is known here: GRUB with /boot/grub/grub.cfg, grub-editenv and update-grub is; "
        "install grub2-common, or leave this host out"
    )


def refusals(host: Host) -> Iterator[Refusal]:
    """Yield why nothing may be risked on this host; nothing when it may."""
    try:
        loader = loader_of(host)
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
    yield from circumstances.refusals(host, state)


def pin(host: Host, _release: str) -> BootState:
    """Make the running kernel the default, whatever is installed from now on."""
    loader = loader_of(host)
    loader.pin(loader.read().of_release(host.running_release))
    return loader.read()


def arm(host: Host, release: str) -> BootState:
    """Let a kernel boot once. Refused while anything speaks against coming back, or the default is not pinned."""
    loader = loader_of(host)
    if found := list(refusals(host)):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    before = loader.read()
    if not before.pinned:
        raise BootError("a newly installed kernel could become the default: `kernroll-boot pin` first")
    rehearsal.require(host)
    entry = before.of_release(release)
    loader.set_next(entry)
    after = loader.read()
    if (after.default, after.pinned) != (before.default, before.pinned):
        raise BootError(f"the default changed from {before.default} to {after.default} while {release} was armed")
    return after


def rehearse(host: Host, _release: str) -> BootState:
    """Let the running kernel boot once, as a new one would; asked again after that boot, write down that it went well.

    Raises BootError when the host did not come back as it should: then nothing may be risked on it.
    """
    loader, running = loader_of(host), host.running_release
    if found := list(refusals(host)):
        raise BootError("; ".join(f"{one.cause} ({one.remedy})" for one in found))
    state, known = loader.read(), rehearsal.read(host)
    entry = state.of_release(running)
    if not state.pinned or state.default != entry.id:
        raise BootError("the running kernel is not the pinned default: `kernroll-boot pin` first")
    here, by = rehearsal.boot_id(host), rehearsal.boots_by(host)
    if known is not None and known.passed_at is None and known.boot_id != here and known.boots_by == by:
        return _rehearsed(host, loader, known)
    rehearsal.keep(host, rehearsal.Rehearsal(boot_id=here, release=running, boots_by=by))
    loader.set_next(entry)
    return loader.read()


def _rehearsed(host: Host, loader: Loader, begun: rehearsal.Rehearsal) -> BootState:
    state = loader.read()
    if state.next:
        loader.clear_next()
        raise BootError(
            "the loader booted and did not clear what was armed for one boot: a kernel that panics would boot again "
            "and again. It is cleared now; leave this host out"
        )
    if host.running_release != begun.release:
        raise BootError(
            f"{begun.release} was armed for one boot and {host.running_release} came up; leave this host out"
        )
    rehearsal.keep(host, replace(begun, passed_at=host.now()))
    return state


def disarm(host: Host, _release: str) -> BootState:
    """Let nothing boot once."""
    loader = loader_of(host)
    loader.clear_next()
    return loader.read()


def bless(host: Host, release: str) -> BootState:
    """Make the running kernel the default; `release` must be it."""
    loader, running = loader_of(host), host.running_release
    if running != release:
        raise BootError(f"{running} runs and not {release}: only a kernel that runs can become the default")
    loader.clear_next()
    loader.pin(loader.read().of_release(release))
    return loader.read()


def revert(host: Host, release: str) -> BootState:
    """Make a kernel that is installed the default again, and let nothing else boot once."""
    loader = loader_of(host)
    # The default first: whatever happens in between, the host boots one of the two.
    loader.pin(loader.read().of_release(release))
    loader.clear_next()
    return loader.read()


# A verb, and whether it takes a release.
CHANGES: dict[str, tuple[Callable[[Host, str], BootState], bool]] = {
    "pin": (pin, False),
    "arm": (arm, True),
    "rehearse": (rehearse, False),
    "disarm": (disarm, False),
    "bless": (bless, True),
    "revert": (revert, True),
}
