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


def test_a_host_is_made_of_the_packages_that_it_has_and_not_of_programs_for_others(tmp_path: Path) -> None:
    host = RpmHost(tmp_path, ("rpm", "dnf", "dpkg-query", "apt-get"), {})
    assert held.kind(host) == ""
    # As on Fedora with the program dpkg, which has no package.
    host.write("/var/lib/dpkg/status", "")
    host.write("/usr/lib/sysimage/rpm/rpmdb.sqlite", "database")
    assert held.kind(host) == "rpm"
    host.write("/var/lib/dpkg/status", "Package: dpkg\n")
    assert held.kind(host) == "deb"


@pytest.mark.parametrize(
    ("settings", "limit"),
    [(None, "3"), ("[main]\n", "3"), ("[main]\ninstallonly_limit = 2\n", "2"), ("installonly_limit=2\n" * 2, "2")],
)
def test_a_dnf_that_removes_the_oldest_kernels_is_refused(tmp_path: Path, settings: str | None, limit: str) -> None:
    host = RpmHost(tmp_path, ("dnf", "rpm"), {})
    host.write("/var/lib/rpm/rpmdb.sqlite", "database")
    if settings is not None:
        host.write("/etc/dnf/dnf.conf", settings)
    (refusal,) = held.refusals(host, ["6.1"])
    assert (refusal.code, refusal.remedy) == ("kernels-limited", "set installonly_limit=0 in /etc/dnf/dnf.conf")
    assert f"dnf keeps {limit} kernels" in refusal.cause
    before = held.seal(host, ["6.1"])
    host.write("/etc/dnf/dnf.conf", "[main]\ninstallonly_limit=0\n")
    assert list(held.refusals(host, ["6.1"])) == []
    # A limit that is set again later is seen.
    assert held.seal(host, ["6.1"]) != before
