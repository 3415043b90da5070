"""What the world is asked to do.

Committed with the decision, then performed at least once; receivers deduplicate by command id.
"""

from dataclasses import dataclass

from controller.domain.record.policy import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWorkload:
    """Ask the agent to run a workload."""

    command_id: str
    host: str
    task: Task
    # Not longer than the task's own.
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCommand:
    """Ask the agent to stop a command and clean up."""

    command_id: str
    host: str
    target_command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKernel:
    command_id: str
    host: str
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmKernel:
    command_id: str
    host: str
    kernel: str
    boot_timeout_s: float
    probation_timeout_s: float
    require_watchdog: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RebootHost:
    command_id: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeBoot:
    command_id: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlessKernel:
    command_id: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertKernel:
    command_id: str
    host: str
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainHost:
    """Ask the host's place to take it out of service."""

    command_id: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UncordonHost:
    """Ask the host's place to put it back into service, however much of the draining was done."""

    command_id: str
    host: str
    # The command of the draining.
    drained_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclePower:
    """Ask the host's management controller to cut its power and give it again; never twice under one command."""

    command_id: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCheck:
    """Ask a check of the rollout about its open wave, again and again until it passes or fails or is not wanted."""

    command_id: str
    wave: int
    # Of the asking.
    number: int
    # By name, of the rollout's policy.
    check: str


AgentEffect = RunWorkload | CancelCommand
DeliveryEffect = StageKernel | ArmKernel | RebootHost | AcknowledgeBoot | BlessKernel | RevertKernel
PlaceEffect = DrainHost | UncordonHost
HostEffect = AgentEffect | DeliveryEffect | PlaceEffect | CyclePower
Effect = HostEffect | RunCheck
