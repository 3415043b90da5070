"""The event that begins a simulated rollout."""

from functools import cache

from simulated_host import NEW, NEW_RELEASE

from controller.domain.kernels import Kernel
from controller.domain.planning.policy import policy_of
from controller.domain.record.events import PlannedHost, RolloutPlanned
from controller.domain.record.policy import WavePolicy
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec

UID = "u1"


@cache
def parsed(text: str) -> RolloutSpec:
    """Return a rollout file's spec; many tests plan the same."""
    return parse_spec(text, "trial")


def planned_trial(
    waves: tuple[tuple[PlannedHost, ...], ...],
    text: str,
    *,
    at: float,
    wave_policies: tuple[WavePolicy, ...] | None = None,
    aa: bool = False,
) -> RolloutPlanned:
    """Return the plan of a file's text with these hosts in these waves."""
    soak_s = (60.0,) * len(waves)
    kernel = Kernel(digest=NEW, release=NEW_RELEASE, architecture="x86_64", source="simulated")
    return RolloutPlanned(
        at=at,
        uid=UID,
        name="trial",
        spec_yaml=text,
        salt="s",
        kernels={"x86_64": kernel},
        waves=waves,
        bake_s=soak_s,
        by="test",
        policy=policy_of(parsed(text), soak_s, waves=wave_policies, aa=aa),
    )
