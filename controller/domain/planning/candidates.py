"""A host as a plan sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCandidate:
    """What a plan needs to know of one enrolled host."""

    name: str
    # "architecture/platform", for example "arm64/vm".
    stratum: str
    architecture: str
    labels: Mapping[str, str] = field(default_factory=dict)
    connected: bool
    # uname -r as the host reported it last.
    kernel_release: str
    # uname -v, which may tell the upstream version that the release hides.
    kernel_version: str = ""
    # The active rollout that holds this host; empty when none does.
    rollout: str = ""
    # Whether the spec's expression selects it; the other conditions are looked at here.
    selected: bool = True
    # Why it is left out although it is selected; empty when it is not.
    barred: str = ""
    # Waves, counted from 0, that are not meant for it: it does not match their expression.
    not_in_waves: frozenset[int] = frozenset()
    # 0 where the host did not say.
    page_size_bytes: int = 0
    memory_bytes: int = 0
    cpu_count: int = 0
