"""Failures by what they mean for a run. Their text says what failed, which one, and what to try."""

from collections.abc import Mapping


class AgentError(Exception):
    """Any failure that is reported to a person or to the controller."""

    def __init__(self, text: str, *, evidence: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        # What a reader needs to see what happened, by name; becomes the evidence of the run that this ends.
        self.evidence = dict(evidence or {})


class ConfigError(AgentError):
    """The configuration file is wrong; the text names file and key."""


class InvalidOrder(AgentError):
    """What was ordered makes no sense; the text says which parameter and what it must be."""


class EnrollmentError(AgentError):
    """No client certificate could be had, and trying again with the same token gives the same result."""


class Unreachable(AgentError):
    """The other side does not answer now; worth trying again."""


class RigError(AgentError):
    """The rig, not the kernel: a missing tool, a missing device, a full disk."""


class KernelWanting(AgentError):
    """The workload ran and the kernel did not do what it must, for example swapon failed."""


class WorkloadDied(AgentError):
    """A process of the workload was killed: an outcome of the run, for example of the out-of-memory killer."""


class ProtocolViolation(AgentError):
    """The controller said something that has no place in this state of the session."""
