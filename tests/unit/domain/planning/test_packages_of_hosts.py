"""A plan refuses a kernel whose packages are of another kind than those of a host, and says what to do."""

from dataclasses import replace

import pytest
from engine_parts import KERNEL, host
from own_boot import own_boot

from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.planning.own_disks import not_installable


def on_its_own(name: str, packages: str) -> Host:
    return replace(host(name), boot=own_boot(name, packages=packages))


def packed(*names: str) -> Kernel:
    return replace(KERNEL, command_line="", files={f"package/{name}": f"/store/{name}" for name in names})


RPM, DEB = packed("kernel-core-6.12.0-55.x86_64.rpm"), packed("linux-image-7.1_1_amd64.deb")


@pytest.mark.parametrize(("kernel", "kind"), [(RPM, "deb"), (DEB, "rpm")])
def test_hosts_of_the_other_kind_are_named_with_what_to_do(kernel: Kernel, kind: str) -> None:
    own = kernel.package_kind
    hosts = [on_its_own("a", own), on_its_own("b", kind), on_its_own("c", ""), on_its_own("d", kind)]
    assert list(not_installable(hosts, {"x86_64": kernel})) == [
        f"spec.kernels.x86_64: {kernel.release} is in {own} packages, and b and d can only be given {kind} packages: "
        f"give them a rollout of their own with a directory of .{kind} packages, or leave them out."
    ]


def test_a_host_that_does_not_tell_its_kind_is_left_to_the_play() -> None:
    assert list(not_installable([on_its_own("a", ""), host("b")], {"x86_64": RPM})) == []
    # Those of another architecture are given another kernel.
    other = replace(on_its_own("a", "deb"), architecture="arm64")
    assert list(not_installable([other], {"x86_64": RPM})) == []
