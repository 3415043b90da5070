"""Hosts as a plan sees them, with only what a test is about."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.domain.hosts.facts import Subject
from controller.domain.hosts.host import Host
from controller.domain.planning.candidates import HostCandidate


def candidate(
    name: str,
    stratum: str = "x86_64/vm",
    *,
    labels: Mapping[str, str] | None = None,
    release: str = "7.0.13",
    rollout: str = "",
    connected: bool = True,
    **facts: Any,
) -> HostCandidate:
    """Return a connected host of "architecture/platform"."""
    architecture, _, platform = stratum.partition("/")
    host = Host(
        name=name,
        architecture=architecture,
        platform=platform,
        connected=connected,
        labels=labels or {},
        **{
            "page_size_bytes": 0,
            "memory_bytes": 0,
            "cpu_count": 0,
            "kernel_release": release,
            "kernel_version": "",
            "boot_id": "b",
            **facts,
        },
    )
    return HostCandidate(subject=Subject(host=host, labels=host.labels, rollout=rollout))


def changed(one: HostCandidate, **changes: Any) -> HostCandidate:
    """Return the host with other facts, other labels, or in another rollout."""
    seen = {name: changes.pop(name) for name in ("labels", "rollout") if name in changes}
    return replace(one, subject=replace(one.subject, host=replace(one.subject.host, **changes), **seen))
