"""A host that starts from its own disk, for the suite of all deliveries: asked over ssh, or through its agent."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from booted_host import BootedHost, BootedProgram, own_loader, stand_in
from engine_parts import host
from fake_delivery import PANIC_LINE

from agent.boot import kernels
from controller.adapters.delivery.ansible.delivery import AnsibleDelivery
from controller.adapters.delivery.ansible.program import AgentProgram, EitherProgram
from controller.domain.hosts.host import Host
from controller.domain.hosts.loader_document import boot_of
from controller.domain.kernels import PACKAGE_ROLE, Kernel
from controller.services.agents.boot_requests import BootRequest, BootRequests
from controller.services.ports import Delivery

HOST = "vm1"


class PackagedDelivery(AnsibleDelivery):
    """Gives kernels what this delivery needs of them: packages, and no command line of their own."""

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        files = {**kernel.files, f"{PACKAGE_ROLE}kernel.deb": "kernel.deb"}
        await super().stage(host, command_id, replace(kernel, command_line="", files=files))


class OwnDiskWorld:
    """A host that starts from its own disk: kernroll-boot and its guard, in this process, so that its clock is ours."""

    sees_it_down = False

    def __init__(self, root: Path, old: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = BootedHost(root, own_loader(old.release))
        stand_in(self.machine, monkeypatch)
        kernels.name(self.machine, old.digest, old.release)
        self.program = BootedProgram(self.machine, panics={"1.0-bad": PANIC_LINE})
        self.delivery: Delivery = PackagedDelivery(self.program, self._told, look_s=0.01)

    def _told(self, name: str) -> Host | None:
        """What its agent would have told."""
        told = self.machine.text("/var/lib/kernroll-boot/status.json") or ""
        return replace(host(HOST), boot=boot_of(HOST, told)) if name == HOST else None

    @property
    def host(self) -> Host:
        known = self._told(HOST)
        assert known is not None
        return known

    def advance(self, seconds: float) -> None:
        self.machine.clock_s += seconds
        self.program.settle()

    async def panic(self, line: str) -> None:
        self.program.wrote(line)
        self.program.boot()

    async def reset(self) -> None:
        self.program.boot()


class StagedOnly:
    """Playbooks that are needed for nothing but staging."""

    def __init__(self, program: BootedProgram) -> None:
        self.stage = program.stage

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        raise AssertionError(f"{host} was asked over ssh for {arguments}")


class AskedWorld(OwnDiskWorld):
    """The same host, every verb of which goes through its agent."""

    def __init__(self, root: Path, old: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, old, monkeypatch)
        self.requests = BootRequests(lambda _host: self._take)
        program = EitherProgram(AgentProgram(self.requests), StagedOnly(self.program))
        self.delivery = PackagedDelivery(program, self._told, look_s=0.01)

    async def _take(self, request: BootRequest) -> None:
        self.requests.answered(HOST, request.request_id, self.program.passed_on(*request.arguments))
