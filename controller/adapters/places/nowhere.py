"""Hosts that may go down as they are: nobody has to be asked first."""

from controller.domain.hosts.host import Host
from controller.domain.record.effects import PlaceEffect


class Nowhere:
    """See Places. It is the place of no host, so nothing is ever asked of it."""

    def place_of(self, _host: Host) -> str:
        """See Places."""
        return ""

    def longest_s(self, _effect: PlaceEffect) -> float:
        """See Places."""
        return 1.0

    async def drain(self, _host: str, _command_id: str) -> None:
        """See Places."""

    async def uncordon(self, _host: str, _command_id: str, *, drained_by: str) -> None:
        """See Places."""
