"""A host as a plan sees it."""

from dataclasses import dataclass

from controller.domain.hosts.facts import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCandidate:
    """One enrolled host, and what a plan has found out about its part."""

    subject: Subject
    # Whether the spec's expression selects it; the other conditions are looked at here.
    selected: bool = True
    # Why it is left out although it is selected; empty when it is not.
    barred: str = ""
    # Waves, counted from 0, that are not meant for it: it does not match their expression.
    not_in_waves: frozenset[int] = frozenset()
    # The delivery that reaches it, by name; empty where there is no choice.
    delivered_by: str = ""
    # The place it has to be taken out of before it goes down, by name; empty where nobody minds.
    place: str = ""

    @property
    def name(self) -> str:
        """The host's name."""
        return self.subject.host.name

    @property
    def architecture(self) -> str:
        """Its architecture, for which the rollout has a kernel."""
        return self.subject.host.architecture
