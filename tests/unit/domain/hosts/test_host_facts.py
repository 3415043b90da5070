"""What expressions see of a host: facts by name, nothing where the host does not tell."""

from dataclasses import fields, replace

import pytest
from engine_parts import host
from own_boot import own_boot

from controller.domain.hosts.expressions import Undecided, expression
from controller.domain.hosts.facts import FACTS, Subject, fact_text
from controller.domain.hosts.host import HostFacts, SwapDevice
from controller.domain.hosts.matching import decide, matching
from protos.kernroll.v1 import common_pb2

DEVICES = (
    SwapDevice(path="/dev/zram0", size_bytes=2**30, used_bytes=0, backend="zram"),
    SwapDevice(path="/dev/nvme0n1", size_bytes=2**40, used_bytes=0, backend="nvme"),
)
FULL = replace(
    host("a"),
    swap_devices=DEVICES,
    agent_version="0.1.0",
    firmware="uefi",
    boot_loader="grub",
    virtualization="none",
    kernel_command_line="ro quiet",
    connected=True,
    boot=own_boot(),
)
A = Subject(
    host=FULL,
    labels={"zone": "z1", "rack": "r1", "cluster": "c1", "hypervisor": "h1"},
    quarantined=True,
    rollout="trial",
    step="bake",
)
VALUES = {
    "host": '"a"',
    "arch": '"x86_64"',
    "platform": '"vm"',
    "stratum": '"x86_64/vm"',
    "kernel_release": '"7.0.13-old"',
    "kernel_version": '"#1"',
    "upstream_version": '"7.0.13"',
    "command_line": '"ro quiet"',
    "agent_version": '"0.1.0"',
    "page_size": "4096",
    "memory": "GiB(2)",
    "cpu_count": "1",
    "swap_total": "GiB(1025)",
    "swap_backends": '["nvme", "zram"]',
    "firmware": '"uefi"',
    "boot_loader": '"grub"',
    "boot_proven": "true",
    "boot_refusals": '["boot-counter", "menu-waits"]',
    "watchdog_open": "true",
    "watchdog_gaps": '["watchdog-late"]',
    "virtualization": '"none"',
    "zone": '"z1"',
    "rack": '"r1"',
    "cluster": '"c1"',
    "hypervisor": '"h1"',
    "labels": '{"zone": "z1", "rack": "r1", "cluster": "c1", "hypervisor": "h1"}',
    "connected": "true",
    "quarantined": "true",
    "rollout": '"trial"',
    "step": '"bake"',
}


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_is_the_hosts_own(name: str) -> None:
    assert decide(expression(f"{name} == {VALUES[name]}"), A) is True
    assert decide(expression(f"{name} != {VALUES[name]}"), A) is False


@pytest.mark.parametrize(
    "name",
    [
        *("page_size", "memory", "cpu_count", "swap_backends", "firmware", "boot_loader", "virtualization"),
        *("agent_version", "boot_proven", "boot_refusals", "watchdog_open", "watchdog_gaps"),
    ],
)
def test_what_an_older_agent_does_not_tell_decides_nothing(name: str) -> None:
    older = replace(
        FULL,
        swap_devices=(replace(DEVICES[0], backend=""),),
        page_size_bytes=0,
        memory_bytes=0,
        cpu_count=0,
        firmware="",
        boot_loader="",
        virtualization="",
        agent_version="",
        boot=None,
    )
    decided = decide(expression(f"{name} == {VALUES[name]}"), Subject(host=older))
    assert decided == Undecided(f"does not tell its {name}")


def test_hosts_without_swap_have_no_backend() -> None:
    assert decide(expression("swap_total == 0 && size(swap_backends) == 0"), Subject(host=host("a"))) is True


def test_matching_tells_hosts_apart() -> None:
    others = [Subject(host=host(name), labels={"tier": tier}) for name, tier in (("b", "db"), ("c", "web"))]
    matched = matching(expression('labels.tier == "db"'), [A, *others, Subject(host=host("d"))])
    assert matched.names == {"b"}
    assert matched.undecided == {"has no label tier": ("a", "d")}


def test_everything_an_agent_tells_is_in_the_table_or_asked_for_otherwise() -> None:
    told = set(common_pb2.HostFacts.DESCRIPTOR.fields_by_name)
    assert told == {one.name for one in fields(HostFacts)} | {"hostname"}
    # An agent's host name is the one that it enrolled with; a boot is nobody's choice.
    assert told == {fact.field for fact in FACTS.values() if fact.field} | {
        "hostname",
        "boot_id",
        "labels",
        "swap_devices",
    }


TEXTS = {
    "host": "a",
    "arch": "x86_64",
    "architecture": "x86_64",
    "memory": str(2**31),
    "memory_bytes": str(2**31),
    "swap_backends": "nvme,zram",
    "quarantined": "yes",
    "zone": "z1",
    "tier": "db",
    # A label cannot hide a fact that is told, and stands in for one that is not.
    "platform": "vm",
    "boot_loader": "label",
    "labels": None,
    "rank": None,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_selector_names_every_fact_and_any_label(name: str) -> None:
    labels = {"zone": "z1", "tier": "db", "platform": "label", "boot_loader": "label"}
    asked = replace(A, host=replace(FULL, boot_loader=""), labels=labels)
    assert fact_text(asked, name) == TEXTS[name]
