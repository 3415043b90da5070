"""The ports: what the services need from the world.

Each has one contract suite in tests/contracts that every implementation passes.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from controller.domain.delivery import DeliveryStatus
from controller.domain.kernels import Kernel


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""


class Delivery(Protocol):
    """Puts kernels on hosts and boots them so that a bad one is left again without help.

    Every verb is idempotent by `command_id`: repeating a call with an id that was carried out returns at once and does
    nothing. Verbs return when the change is durable, not when the host is up. Raises Temporary (unreachable, worth
    retrying) or Permanent (refused; the text says why).
    """

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """Bring the kernel's files to the host. Never changes what boots next."""

    async def arm(
        self, host: str, command_id: str, kernel: str, *, boot_timeout_s: float, probation_timeout_s: float
    ) -> None:
        """Make a staged kernel (by digest) the next boot, once.

        After that boot the host falls back to its default kernel by itself when the kernel panics, resets, is not
        acknowledged within `boot_timeout_s` of the start, or not blessed within `probation_timeout_s` of the
        acknowledgement.
        """

    async def reboot(self, host: str, command_id: str) -> None:
        """Cold-boot now: into the armed kernel, else into the default."""

    async def acknowledge(self, host: str, command_id: str) -> None:
        """A healthy agent was heard under the armed kernel: end the boot deadline, start the probation deadline."""

    async def bless(self, host: str, command_id: str) -> None:
        """Make the running kernel the default. The former default stays staged."""

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """Make `kernel` (a digest, staged) the default, disarm, and cold-boot into it unless it is running as such."""

    async def status(self, host: str) -> DeliveryStatus:
        """Return the present state."""

    def watch(self, hosts: Sequence[str]) -> AsyncIterator[DeliveryStatus]:
        """Yield each host's state at once and again after each change.

        An unreachable host is retried and yields nothing meanwhile.
        """
