"""What every fault in a fault file is made of."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from controller.domain.spec.fields import Model, OneOrMore
from controller.domain.spec.units import Duration, Percent, PositiveDuration

_CHANGE: Final = re.compile(r"([-+]?\d+(?:\.\d+)?) ?%")
_LARGEST_CHANGE: Final = 10.0


def _change_share(value: Any) -> float:
    match = _CHANGE.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    share = float(match[1]) / 100 if match else -2.0
    if not -1.0 < share <= _LARGEST_CHANGE:
        raise ValueError('must be a change in percent with its sign, for example "+4 %" or "-30.8 %"')
    return share


Change = Annotated[
    float, BeforeValidator(_change_share), WithJsonSchema({"type": "string", "pattern": f"^{_CHANGE.pattern}$"})
]


class HostFault(Model):
    """Something that is wrong on a share of the hosts, drawn anew for every seed."""

    share: Percent
    # Only hosts of these strata ("arm64/vm"). Empty: of all.
    strata: OneOrMore | tuple[()] = ()


class SlowBoot(HostFault):
    """How long these hosts take to boot the new kernel."""

    takes_s: PositiveDuration = Field(alias="takes")


class LateFault(HostFault):
    """Happens once, at a moment drawn between nothing and twice this long after the kernel started."""

    after_s: PositiveDuration = Field(alias="after")


class RecurringFault(HostFault):
    """Comes and goes: on average this often, for on average this long."""

    every_s: PositiveDuration = Field(alias="every")
    down_for_s: PositiveDuration = Field(alias="down_for")


class LyingClock(HostFault):
    """The host's clock jumps by this much, ahead or back, once within the first two hours."""

    off_by_s: PositiveDuration = Field(alias="off_by")


class NoisyRig(HostFault):
    """Everything that is measured scatters this many times as much as usual."""

    factor: Annotated[float, Field(ge=1, le=1000)] = 5.0


class BrokenRig(HostFault):
    """So many measurements in a row fail for reasons that are not the kernel's."""

    times: Annotated[int, Field(ge=1, le=100)] = 1


class MessageFault(Model):
    """Befalls a share of all messages between agents and controller."""

    share: Percent


class AnswerFault(Model):
    """Befalls a share of all answers to checks."""

    share: Percent


class Incident(Model):
    """Happens on average this often in one rollout, after some decision or observation that was just recorded."""

    per_rollout: Annotated[float, Field(gt=0, le=100)]


class Outage(Incident):
    """An incident that lasts for a while."""

    down_for_s: Duration = Field(default=30.0, alias="down_for")


class ClockJump(Incident):
    """The controller's clock is set ahead or back by this much."""

    by_s: PositiveDuration = Field(alias="by")


class Effect(Model):
    """What the new kernel truly does to a metric in some strata; the first entry that fits a host counts."""

    metric: Annotated[str, Field(min_length=1, max_length=256)]
    strata: OneOrMore | tuple[()] = ()
    # "-30.8 %": the value under the new kernel against the one under the old.
    change: Change
