"""dnf is told to keep the packages of kernels that must stay, by a file and only where it is there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.boot.host import Host
from agent.boot.packages import held
from agent.boot.values import BrokenHost

RULES = "/etc/dnf/protected.d/kernroll.conf"


class RpmHost(Host):
    """A host with these tools; rpm knows these files."""

    def __init__(self, root: Path, tools: tuple[str, ...], owners: Mapping[str, str]) -> None:
        super().__init__(root)
        self.tools, self.owners = tools, owners
        for path in (*owners, "/boot/vmlinuz-9.9"):
            self.write(path, "")

    def has(self, tool: str) -> bool:
        return tool in self.tools

    def run(self, *command: str) -> str:
        if command[:-1] != ("rpm", "--query", "--file", "--queryformat", "%{NAME}\\n"):
            raise BrokenHost(f"{command[0]} was not expected")
        if command[-1] not in self.owners:
            raise BrokenHost(f"file {command[-1]} is not owned by any package")
        return f"{self.owners[command[-1]]}\n"


OWNERS = {"/boot/vmlinuz-6.1": "kernel-core", "/lib/modules/6.1/modules.builtin": "kernel-modules-core"}
OWNERS |= {"/lib/modules/6.2/vmlinuz": "kernel-lts-core"}


@pytest.mark.parametrize("tool", ["dnf", "dnf5"])
def test_the_packages_of_both_kernels_are_protected(tmp_path: Path, tool: str) -> None:
    host = RpmHost(tmp_path, (tool, "rpm"), OWNERS)
    held.protect(host, ["6.1", "6.2"])
    assert host.text(RULES) == "kernel-core\nkernel-lts-core\nkernel-modules-core\n"
    # What was protected before stays so, and what is of no package changes nothing.
    held.protect(host, ["9.9"])
    assert host.text(RULES) == "kernel-core\nkernel-lts-core\nkernel-modules-core\n"
    before = held.seal(host, ["6.1"])
    assert list(before) == [RULES]
    host.path(RULES).write_text("kernel-core\n")
    assert held.seal(host, ["6.1"]) != before


@pytest.mark.parametrize("tools", [(), ("rpm",), ("dnf",)])
def test_nothing_is_written_where_there_is_no_dnf(tmp_path: Path, tools: tuple[str, ...]) -> None:
    host = RpmHost(tmp_path, tools, OWNERS)
    held.protect(host, ["6.1"])
    assert host.text(RULES) is None
    assert (dict(held.seal(host, ["6.1"])), list(held.refusals(host, ["6.1"]))) == ({}, [])
