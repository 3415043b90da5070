"""Serious kernel-log lines: recorded once a boot, counted for their kernel, and what a wave makes of them."""

from dataclasses import replace

import pytest
from engine_parts import STARTED, UID, Parts, planned, walked
from rollout_story import Story

from controller.domain.judging.host_evidence import host_evidence
from controller.domain.judging.waves import judge_wave
from controller.domain.record.events import LogFinding
from controller.domain.record.journey import Side, Step
from controller.domain.record.names import Key
from controller.domain.state.attempt import MOST_FINDINGS
from controller.gate.kernel_log import classify
from controller.services.agents.sessions import LogReported

WARNING = "WARNING: CPU: 0 PID: 7 at kernel/sched/core.c:1234 finish_task_switch+0x12/0x34"
STALL = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"
OOPS = "BUG: kernel NULL pointer dereference, address: 0000000000000008"


async def logged(parts: Parts, name: str, boot: int, *lines: str) -> None:
    await parts.sessions.reported("a", LogReported(report_id=name, boot_id=f"a-boot-{boot}", lines=lines))


async def test_a_line_is_recorded_once_a_boot_and_belongs_to_its_kernel() -> None:
    parts = await walked(Step.PROBATION)
    await logged(parts, "k1", 1, "nothing", WARNING)
    await logged(parts, "k2", 2, WARNING, STALL, WARNING)
    before = len(parts.disk.log)
    # The agent's log begins anew after a restart of it.
    await logged(parts, "k3", 2, WARNING, STALL)
    assert len(parts.disk.log) == before
    attempt = parts.attempt()
    assert [(one.boot_id, one.line) for one in attempt.findings if one.line == WARNING] == [
        ("a-boot-1", WARNING),
        ("a-boot-2", WARNING),
    ]
    assert (attempt.ran_on("a-boot-1"), attempt.ran_on("a-boot-2")) == (Side.OLD, Side.NEW)
    assert attempt.ran_on("somebody else's") is Side.OLD
    evidence = host_evidence(parts.engine.world.rollouts[UID], attempt)
    assert {one.line for one in evidence.findings} == {WARNING, STALL}
    assert {one.line for one in evidence.old_findings} == {WARNING}
    await parts.engine.settle()
    assert parts.attempt().step is Step.PROBATION


async def test_what_the_old_kernel_wrote_before_the_rollout_is_known() -> None:
    parts = await Parts().start()
    stream = await parts.connect()
    await logged(parts, "early", 1, WARNING)
    # An agent that comes back says nothing of it again.
    await parts.sessions.disconnected(stream)
    await parts.connect()
    assert list(parts.disk.hosts["a"].serious.values()) == [WARNING]
    await parts.engine.record(Key(UID), lambda: (planned(), STARTED))
    await parts.engine.settle()
    attempt = parts.attempt()
    assert attempt.step is Step.BASELINE
    assert [(one.boot_id, one.line) for one in attempt.findings] == [("a-boot-1", WARNING)]
    # Under another boot it is another kernel's log.
    await parts.connect(boot="2")
    assert parts.disk.hosts["a"].serious == {}


async def test_a_fatal_line_beside_a_serious_one_is_what_counts() -> None:
    parts = await walked(Step.PROBATION)
    await logged(parts, "k", 2, WARNING, OOPS)
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTING


def wave(*hosts: str, old: bool = False, line: str = WARNING) -> tuple[str, str]:
    """Return decision and sentence on two hosts when these show a serious line, under the new or the old kernel."""
    story = Story([["a", "b"]])
    story.run()
    attempts = dict(story.attempts)
    for host in hosts:
        boot = attempts[host].boot_ids[0 if old else 1]
        finding = LogFinding(signature="warning: kernel/sched/core.c", line=line, boot_id=boot)
        attempts[host] = replace(attempts[host], findings=(finding,))
    judged = judge_wave(story.rollout, attempts, 0.0)
    return judged.decision, judged.sentence


def test_one_host_holds_a_second_one_reverts() -> None:
    assert wave()[0] == "promote"
    decision, sentence = wave("a")
    assert decision == "hold"
    assert f'a: the kernel log of the new kernel says "{WARNING}", which the old kernel does not; seen once' in sentence
    decision, sentence = wave("a", "b")
    assert decision == "revert"
    assert "seen 2 times on 2 hosts" in sentence
    assert wave("a", "b", old=True)[0] == "promote"


async def test_a_boot_that_floods_its_log_is_remembered_up_to_a_limit_of_its_own() -> None:
    parts = await walked(Step.PROBATION)
    many = [f"WARNING: CPU: 0 PID: 7 at fs/file{i}.c:12 f{i}+0x1/0x2" for i in range(MOST_FINDINGS + 5)]
    await logged(parts, "k1", 1, *many)
    assert len(parts.attempt().findings) == MOST_FINDINGS
    await logged(parts, "k2", 2, WARNING)
    assert len(parts.attempt().findings) == MOST_FINDINGS + 1
    # What else the old kernel would have written nobody knows: nothing is new then.
    evidence = host_evidence(parts.engine.world.rollouts[UID], parts.attempt())
    assert evidence.findings == ()


@pytest.mark.parametrize("boots", [(), ("b1",)])
def test_before_any_reboot_every_line_is_the_old_kernels(boots: tuple[str, ...]) -> None:
    attempt = replace(Story([["a"]]).attempts["a"], boot_ids=boots)
    assert attempt.ran_on("b1") is Side.OLD


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        (
            "nvme nvme0: I/O tag 12 (100c) opcode 0x1 (I/O Cmd) QID 3 timeout, aborting req_op:WRITE(1)",
            "serious",
        ),
        ("ata1.00: failed command: WRITE FPDMA QUEUED", "serious"),
        ("mmcblk0: error -110 transferring data, sector 2048, nr 8", "serious"),
        ("md/raid1:md0: Disk failure on sda1, disabling device.", "serious"),
        ("ubi0 error: ubi_io_read: error -74", "serious"),
        ("OCFS2: ERROR (device dm-0): ocfs2_validate_inode_block", "serious"),
        ("GFS2: fsid=c:f.0: fatal: filesystem consistency error", "serious"),
        ("kobject (00000000b6b2c7c1): tried to init an initialized object, something is seriously wrong.", "serious"),
        ("page_pool_release_retry() stalled pool shutdown: id 7, 2 inflight 60 sec", "serious"),
        ("LustreError: 4711:0:(osc_cache.c:1000:osc_extent_finish()) LBUG", "fatal"),
        ("LustreError: 4711:0:(osc_cache.c:1000:osc_extent_finish()) ASSERTION( ext->oe_users > 0 ) failed:", "fatal"),
        ("nvme nvme0: 8/0/0 default/read/poll queues", ""),
        ("ata1.00: configured for UDMA/133", ""),
        ('device-mapper: verity: sha256 using implementation "sha256-ni"', ""),
    ],
)
def test_disks_and_file_systems_that_fail_are_told_and_that_work_are_not(line: str, severity: str) -> None:
    assert [one.severity.value for one in classify([line])] == ([severity] if severity else [])
