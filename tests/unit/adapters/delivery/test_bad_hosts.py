"""One host of a rollout on which staging cannot work: one sentence says why, the rig failed, and the others go on."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from engine_parts import KERNEL, STARTED, UID, OneKernel, Parts, host, planned, reached
from own_boot import own_boot
from project import ROOT

from controller.adapters.delivery.ansible import program
from controller.adapters.delivery.ansible.delivery import AnsibleDelivery
from controller.adapters.delivery.ansible.program import PlayedProgram
from controller.adapters.places.nowhere import Nowhere
from controller.adapters.plays.outcomes import HostOutcome, outcomes, play_event
from controller.adapters.plays.runner import Heard, Plays
from controller.domain.kernels import PACKAGE_ROLE, Kernel
from controller.domain.record.events import CONDEMNING, FailureKind
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.state.rollout import State
from controller.services.engine.performing import Performer

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests" / "support" / "recorded" / "plays" / "failures.json").read_text()
)
GOOD = ("a", "c")
ANSWER = {
    "loader": "grub",
    "pinned": True,
    "revision": 5,
    "default_kernel": "old-digest",
    "armed_kernel": "",
    "running_kernel": "old-digest",
    "boots": [],
}


def failed(step: str, message: str) -> dict[str, Any]:
    """Return what Ansible tells of a module of ours that failed; its sentences are tried on a machine elsewhere."""
    result = {"failed": True, "msg": message, "step": step}
    return {"event": "runner_on_failed", "event_data": {"task": "kernroll-boot", "duration": 1.0, "res": result}}


LOCKED = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)"
BAD = {
    "unreachable": (RECORDED["port closed"], "cannot be reached: ssh: connect to host"),
    "another host key": (RECORDED["host key changed"], "its ssh host key has changed: another machine answers"),
    "wrong become password": (RECORDED["wrong sudo password"], "the password for sudo is wrong or missing"),
    "package missing": (
        failed("installing the packages", "linux-image : Depends: linux-base (>= 99) but it is not installable"),
        "installing the packages: linux-image : Depends: linux-base (>= 99)",
    ),
    "digest mismatch": (
        failed("comparing the packages", "kernel.deb is not the package that was meant: its sha256 is another one"),
        "comparing the packages: kernel.deb is not the package that was meant",
    ),
    "full /boot": (
        failed("looking for room", "/boot has 3 MiB left, and another kernel may need 90 MiB: remove kernels"),
        "looking for room: /boot has 3 MiB left",
    ),
    "lock held for ever": (
        failed("installing the packages", LOCKED),
        "installing the packages: another package manager held /var/lib/dpkg/lock-frontend for too long",
    ),
}


class FakePlays:
    """Stands for Plays: every host stages but one, of which Ansible tells something else."""

    def __init__(self, bad: Mapping[str, Any]) -> None:
        self._bad = bad

    async def run(
        self, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any], *, heard: Heard, **_: Any
    ) -> Mapping[str, HostOutcome]:
        (name,) = hosts
        assert heard.begins is not None
        heard.begins()
        await asyncio.sleep(0)
        if name in GOOD:
            done = HostOutcome(host=name, done=True, unreachable=False, task="kernroll-boot", sentence="")
            return {name: replace(done, answer=ANSWER)}
        told = play_event({**self._bad, "event_data": {**self._bad["event_data"], "host": name}})
        assert told is not None
        return outcomes([name], [told], "")


class Packaged(OneKernel):
    """Finds the kernel as packages."""

    def __init__(self, package: Path) -> None:
        super().__init__()
        package.write_text("a package")
        self._kernel = replace(KERNEL, files={f"{PACKAGE_ROLE}kernel.deb": str(package)})

    async def load(self, digest: str) -> Kernel:
        return self._kernel


@pytest.mark.parametrize("what", BAD)
async def test_it_is_the_rigs_failure_and_the_others_are_untouched(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, sentence = BAD[what]
    # The clock below says how long was tried.
    monkeypatch.setattr(program, "_UNREACHABLE_RETRY_S", 0.0)
    parts = await Parts().start()
    names = ("a", "b", "c")
    for name in names:
        await parts.sessions.connected(parts.stream(name), replace(host(name), boot=own_boot(name)))
    await parts.engine.record(Key(UID), lambda: (planned(names), STARTED))
    await parts.engine.settle()
    for name in names:
        await parts.measure(name)
    await parts.engine.settle()
    assert {parts.attempt(name).step for name in names} == {Step.STAGE}
    clock = iter(range(0, 10_000, 200))
    played = PlayedProgram(cast(Plays, FakePlays(event)), parts.journal, monotonic_s=lambda: float(next(clock)))
    performer = Performer(
        parts.engine,
        parts.sessions,
        AnsibleDelivery(played, parts.engine.host_named),
        Packaged(tmp_path / "kernel.deb"),
        parts.clock,
        places=Nowhere(),
        pause_s=0.0,
    )
    performer.submit(tuple(parts.engine.outstanding.values()))
    await reached(lambda: not performer._running)
    await parts.engine.settle()
    await performer.close()
    await parts.journal.close()
    failure = parts.attempt("b").failure
    assert failure is not None
    assert failure.kind is FailureKind.DELIVERY
    assert failure.kind not in CONDEMNING
    assert failure.sentence.startswith(f"b: {sentence}")
    assert "\n" not in failure.sentence
    assert {parts.attempt(name).step for name in GOOD} == {Step.ARM}
    assert {parts.attempt(name).failure for name in GOOD} == {None}
    assert parts.engine.world.rollouts[UID].state in (State.RUNNING, State.PAUSED)
    log = [line.text for line in (await parts.operations.log("trial", host="b")).lines]
    assert any(sentence in text for text in log)
    await parts.engine.close()
