"""The document of a host's kernroll-boot, as values; cut to its bounds, and believed in nothing."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from controller.domain import bounds
from controller.domain.delivery import BootCause, BootEnd, BootRecord, DeliveryStatus
from controller.domain.errors import Permanent
from controller.domain.hosts.loaders import BootRefusal, HostBoot, HostWatchdog

_MOST_CHARACTERS: Final = 256 << 10
_MOST_BOOTS: Final = 20
_MOST_REFUSALS: Final = 32
_MOST_RELEASES: Final = 64
_MOST_WATCHDOGS: Final = 16
_LONGEST_WATCHDOG_S: Final = 86_400
_Word = TypeVar("_Word", bound=StrEnum)


def boot_of(host: str, text: str) -> HostBoot | None:
    """Return what the text says; None where it says nothing, or nothing that can be read."""
    try:
        return read_boot(host, text) if text else None
    except Permanent:
        return None


def read_boot(host: str, text: str) -> HostBoot:
    """Return what kernroll-boot printed. Raises Permanent for what it does not print."""
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError("it is too long")
        told = json.loads(text)
        return HostBoot(
            loader=bounds.name(str(told["loader"])),
            delivery=_delivery(host, told),
            pinned=told["pinned"] is True,
            **_rehearsal(told.get("rehearsal")),
            refusals=tuple(_refusal(one) for one in told.get("refusals", [])[:_MOST_REFUSALS]),
            releases=_releases(told.get("kernels", {})),
            withdrawn=bounds.sentence(str(told.get("withdrawn", ""))),
            packages=_packages(told.get("packages")),
            watchdog=_watchdog(told.get("watchdog"), told.get("watchdog_gaps")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise Permanent(
            f"{host}: kernroll-boot says what cannot be read ({error}): is it of another version?"
        ) from error


def _packages(told: object) -> str:
    """Return the kind of packages; empty where a host says nothing of it, or what is not known here."""
    return str(told) if told in ("deb", "rpm") else ""


def _delivery(host: str, told: Mapping[str, Any]) -> DeliveryStatus:
    return DeliveryStatus(
        host=host,
        revision=bounds.whole(int(told["revision"])),
        default=bounds.name(str(told["default_kernel"])),
        armed=bounds.name(str(told["armed_kernel"])) or None,
        running=bounds.name(str(told["running_kernel"])) or None,
        boots=tuple(_boot(one) for one in told["boots"][-_MOST_BOOTS:]),
    )


def _boot(told: Mapping[str, Any]) -> BootRecord:
    return BootRecord(
        number=bounds.whole(int(told["number"])),
        kernel=bounds.name(str(told["kernel"])),
        command_id=bounds.report_id(str(told["command_id"])),
        # A word that this version does not know says no more than that it was not asked for.
        cause=_word(BootCause, told["cause"]) or BootCause.RESTART,
        end=(_word(BootEnd, told["end"]) or BootEnd.RESET) if told["end"] else None,
        console_line=bounds.sentence(str(told["line"])),
        started_at=_moment(told["started_at"]),
        ended_at=None if told["ended_at"] is None else _moment(told["ended_at"]),
    )


def _word(kind: type[_Word], text: object) -> _Word | None:
    return next((one for one in kind if one.value == text), None)


def _moment(value: object) -> float:
    found = bounds.moment(float(str(value)))
    if found is None:
        raise ValueError(f"{str(value)[:40]} is no time")
    return found


def _rehearsal(told: Mapping[str, Any] | None) -> dict[str, Any]:
    if not told:
        return {}
    if told["passed_at"] is None:
        return {"rehearsal_failed": bounds.sentence(str(told.get("failed", "")))}
    return {"proven_at": _moment(told["passed_at"]), "boots_by": bounds.sentence(str(told["boots_by"]))}


def _releases(told: Mapping[str, Any]) -> dict[str, str]:
    some = list(told.items())[:_MOST_RELEASES]
    return {bounds.name(str(digest)): bounds.name(str(release)) for digest, release in some}


def _watchdog(told: Mapping[str, Any] | None, gaps: list[Mapping[str, Any]] | None) -> HostWatchdog | None:
    """Return None where a host says nothing of it, or has not looked yet at what is missing."""
    if told is None or gaps is None:
        return None
    devices = {str(one["name"]): one for one in told["devices"][:_MOST_WATCHDOGS]}
    held = devices.get(str(told["held"]))
    timeout_s = held["timeout_s"] if held is not None else None
    return HostWatchdog(
        devices=tuple(_device(one) for one in devices.values()),
        open=_device(held) if held is not None else bounds.name(str(told["held"] or "")),
        timeout_s=min(bounds.whole(int(timeout_s or 0)), _LONGEST_WATCHDOG_S),
        gaps=tuple(_refusal(one) for one in gaps[:_MOST_REFUSALS]),
    )


def _device(told: Mapping[str, Any]) -> str:
    return bounds.name(f"{told['name']} {told['identity']}".strip())


def _refusal(told: Mapping[str, Any]) -> BootRefusal:
    return BootRefusal(
        code=bounds.name(str(told["code"])),
        cause=bounds.sentence(str(told["cause"])),
        remedy=bounds.sentence(str(told["remedy"])),
    )
