"""What a host says of its boot, as one document: for whoever asks, and for the agent, which passes it on."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from agent.boot import choice, kernels, rehearsal, verbs
from agent.boot.host import Host
from agent.boot.packages import held
from agent.boot.trial import book
from agent.boot.values import BootError, BootState
from agent.boot.watchdog import devices

# Read by the agent: agent.adapters.host.boot_program.
_FILE: Final = "/var/lib/kernroll-boot/status.json"


def document(host: Host, state: BootState, *, proven: rehearsal.Rehearsal | None) -> dict[str, Any]:
    """Return everything but what speaks against a trial."""
    kept = book.read(host)
    names = {one: kernels.kernel_of(host, one) for one in _told(host, state)}
    trial = kept.trial
    return {
        **asdict(state),
        "rehearsal": asdict(proven) if proven else None,
        "kernels": {kernel: release for release, kernel in names.items() if kernel},
        "default_kernel": names.get(_release(state, state.default), ""),
        "running_kernel": kept.boots[-1].kernel if _is_kept(host, kept.boots) else names.get(host.running_release, ""),
        "armed_kernel": trial.kernel if trial and not trial.boot_id else "",
        "withdrawn": kept.withdrawn,
        "revision": kept.revision,
        "boots": [asdict(one) for one in kept.boots],
        "watchdog": asdict(devices.read(host)),
        "packages": held.kind(host),
    }


def keep(host: Host, told: Mapping[str, Any], *, look: bool) -> None:
    """Write it down for the agent; with `look` what speaks against a trial is looked at anew."""
    former = {} if look else _former(host)
    found = {
        "refusals": [asdict(one) for one in verbs.refusals(host)] if look else former.get("refusals", []),
        "watchdog_gaps": [asdict(one) for one in verbs.watchdog_gaps(host)] if look else former.get("watchdog_gaps"),
    }
    host.write(_FILE, json.dumps({**told, **found}, indent=1) + "\n")


def renew(host: Host) -> None:
    """Write down what is so now, where it can be told; what speaks against a trial is not looked at anew."""
    with suppress(BootError):
        keep(host, document(host, choice.loader_of(host).read(), proven=rehearsal.read(host)), look=False)


def observed(host: Host) -> None:
    """Look at everything, and write it down."""
    try:
        told = document(host, choice.loader_of(host).read(), proven=rehearsal.read(host))
    except BootError:
        told = _former(host)
    keep(host, told, look=True)


def _former(host: Host) -> dict[str, Any]:
    try:
        found = json.loads(host.text(_FILE) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(host: Host, state: BootState) -> list[str]:
    """Return the releases whose kernels are named: those that were staged, the default and the running one."""
    offered = {one.release for one in state.entries}
    staged = [one for one in kernels.named(host).values() if one in offered]
    return sorted({*staged, host.running_release, _release(state, state.default)} - {""})


def _release(state: BootState, entry_id: str) -> str:
    entry = state.entry(entry_id)
    return entry.release if entry else ""


def _is_kept(host: Host, boots: tuple[Any, ...]) -> bool:
    return bool(boots) and boots[-1].boot_id == host.boot_id
