"""How long the boots of one stratum take, and what a boot may take before it counts as failed."""

import math
from dataclasses import dataclass

from controller.domain.hosts.strata import read_stratum

# Seconds from the start of a boot to a healthy agent, where nothing is known yet.
# Only virtual machines are sure to be fast: firmware, emulation, and what nobody can tell of take their time.
_VIRTUAL_S, _OTHER_S = 900.0, 2700.0
# So many boots must be known before they decide.
FEWEST_BOOTS = 20
# The newest boots that are kept.
_KEPT = 200
# However fast the boots were, a slow disk is no hang; however slow, a hang must be noticed.
_SHORTEST_S, _LONGEST_S = 60.0, 7200.0


@dataclass(frozen=True, slots=True)
class BootTimes:
    """The newest boots of a stratum: seconds from the restart to the agent's answer under the expected kernel."""

    seconds: tuple[float, ...] = ()

    def with_boot(self, duration_s: float) -> "BootTimes":
        """Return these and one more, the oldest forgotten."""
        return BootTimes((*self.seconds[-_KEPT + 1 :], duration_s))

    def quantile(self, share: float) -> float | None:
        """Return the boot time that this share of the boots did not exceed; None while too few are known."""
        if len(self.seconds) < FEWEST_BOOTS:
            return None
        return sorted(self.seconds)[math.ceil(share * len(self.seconds)) - 1]

    def timeout_s(self, given_s: float | None, stratum: str) -> float:
        """Return what a boot may take: as given, else twice the slowest percent, else by platform."""
        if given_s is not None:
            return given_s
        slowest = self.quantile(0.99)
        if slowest is not None:
            return min(_LONGEST_S, max(_SHORTEST_S, 2 * slowest))
        return _VIRTUAL_S if read_stratum(stratum).platform == "vm" else _OTHER_S

    def expected_s(self, given_s: float | None, stratum: str) -> float:
        """Return the time that must be left of a maintenance window for a boot to begin."""
        p95 = self.quantile(0.95)
        return self.timeout_s(given_s, stratum) if p95 is None else p95
