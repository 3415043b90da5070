"""The fields of a fault file: what goes wrong in a simulated world, how often, and what the new kernel truly does."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from controller.domain.spec.document import Architecture
from controller.domain.spec.fields import LabelKey, Model, Name, Text
from controller.domain.spec.units import Percent
from controller.gate.metrics import METRICS
from controller.gate.priors import PRIORS
from controller.sim.faults.fields import (
    AnswerFault,
    BrokenRig,
    ClockJump,
    Effect,
    HostFault,
    Incident,
    LateFault,
    LyingClock,
    MessageFault,
    NoisyRig,
    Outage,
    RecurringFault,
    SlowBoot,
)

Platform = Literal["metal", "vm", "emulated"]


class Group(Model):
    """A share of the fleet that is alike."""

    architecture: Architecture
    platform: Platform = "vm"
    share: Percent
    labels: Mapping[LabelKey, Text] = Field(default_factory=dict)
    # Label -> over how many values the group's hosts are spread evenly: {zone: 3} makes zone-1, zone-2 and zone-3.
    spread: Mapping[LabelKey, Annotated[int, Field(ge=1, le=10_000)]] = Field(default_factory=dict)


class NewKernel(Model):
    """What is wrong with the kernel that is rolled out."""

    panics_at_boot: HostFault | None = None
    resets_at_boot: HostFault | None = None
    # It boots, and no agent ever speaks.
    hangs_at_boot: HostFault | None = None
    boots_slowly: SlowBoot | None = None
    dies_later: LateFault | None = None
    # It runs on and does nothing any more.
    hangs_later: LateFault | None = None
    # A line in its log that condemns it, hours after the boot.
    oopses_later: LateFault | None = None
    # A line that is serious and not fatal.
    warns_later: LateFault | None = None
    kills_workloads: HostFault | None = None


class Hosts(Model):
    """What is wrong with hosts, whatever they run."""

    # After a fallback or a revert the host is never heard again.
    never_return: HostFault | None = None
    # They have no management controller; theirs does not say what it did; theirs comes and goes.
    unmanaged: HostFault | None = None
    mute_management: HostFault | None = None
    management_away: RecurringFault | None = None
    # Nothing can be staged on it.
    dead_disk: HostFault | None = None
    # Its supervisor refuses one verb for good: stage, arm, reboot, bless or revert.
    refuse_a_verb: HostFault | None = None
    # It comes up on its old kernel although the new one was armed, and nothing says why.
    ignore_new_kernel: HostFault | None = None
    # Its measurements fail, time out, are refused or not understood, under any kernel.
    odd_outcomes: HostFault | None = None
    # Its supervisor cannot be reached from time to time.
    deaf_supervisor: RecurringFault | None = None
    lying_clock: LyingClock | None = None
    noisy_rig: NoisyRig | None = None
    broken_rig: BrokenRig | None = None
    reboot_unasked: LateFault | None = None


class Network(Model):
    """What happens between agents and the controller. Streams keep their order; what is lost breaks the stream."""

    flaps: RecurringFault | None = None
    lost: MessageFault | None = None
    duplicated: MessageFault | None = None
    # Overtaken by up to half a minute of later messages.
    reordered: MessageFault | None = None


class Controller(Model):
    """What happens to the controller itself."""

    # Killed between a commit and its effect, or in the middle of an effect; another one starts on the same log.
    crashes: Outage | None = None
    # Another controller takes over while this one still believes that it leads.
    leader_changes: Outage | None = None
    # The disk below the log takes no writes.
    store_fails: Outage | None = None
    clock_jumps: ClockJump | None = None


class Monitoring(Model):
    """What comes back when a rollout's checks are asked, persons who report included; whatever else passes."""

    # No, for good.
    fails: AnswerFault | None = None
    # No answer at all.
    silent: AnswerFault | None = None
    # One that is none.
    errors: AnswerFault | None = None
    # Not yet.
    waits: AnswerFault | None = None


class Cluster(Model):
    """Hosts that are nodes: drained before they go down, and put back into service afterwards."""

    # Which hosts are; without this entry none is.
    nodes: HostFault | None = None
    # Something on them may not be evicted, so that draining never ends.
    never_empty: HostFault | None = None
    # Draining them is refused.
    may_not_drain: HostFault | None = None
    # Nobody answers for these nodes from time to time.
    away: RecurringFault | None = None


class Body(Model):
    """Everything under `spec`."""

    # Empty: virtual machines of every architecture that the rollout has a kernel for, in equal parts.
    fleet: Annotated[tuple[Group, ...], Field(max_length=100)] = ()
    new_kernel: NewKernel = NewKernel()
    hosts: Hosts = Hosts()
    network: Network = Network()
    controller: Controller = Controller()
    monitoring: Monitoring = Monitoring()
    cluster: Cluster = Cluster()
    # Verb -> how often an operator uses it in one rollout, at a moment drawn at random.
    operator: Mapping[Text, Incident] = Field(default_factory=dict)
    effects: Annotated[tuple[Effect, ...], Field(max_length=1000)] = ()


class Metadata(Model):
    """What the faults are called."""

    name: Name


class FaultDocument(Model):
    """The whole file."""

    api_version: Literal["kernroll/v1"] = Field(alias="apiVersion")
    kind: Literal["Faults"]
    metadata: Metadata
    spec: Body = Body()


def problems_across(body: Body, verbs: Collection[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what is wrong between fields that are each right: where, below `spec`, and a sentence."""
    total = sum(group.share for group in body.fleet)
    if body.fleet and abs(total - 1) > 0.001:
        yield ("fleet",), f"has shares of {total * 100:g} % together; they must make 100 %"
    answers = [getattr(body.monitoring, name) for name in Monitoring.model_fields]
    total = sum(one.share for one in answers if one is not None)
    if total > 1.0001:
        yield ("monitoring",), f"has shares of {total * 100:g} % together; of all answers there are 100 %"
    for name in body.operator:
        if name not in verbs:
            yield ("operator", name), f"is no verb of an operator; there are {', '.join(sorted(verbs))}"
    for index, effect in enumerate(body.effects):
        if effect.metric not in METRICS and effect.metric not in PRIORS:
            known = ", ".join(sorted({*METRICS, *(name for name, one in PRIORS.items() if one.margin)}))
            yield ("effects", index, "metric"), f"is no metric (got {effect.metric!r}); there are {known}"
