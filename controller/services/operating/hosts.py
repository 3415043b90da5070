"""Which of the enrolled hosts an operator means."""

from controller.domain.errors import InvalidInput
from controller.domain.fleet.denials import subject
from controller.domain.hosts.expressions import Expression, ExpressionError, expression, pointed
from controller.domain.hosts.facts import Subject, matching
from controller.domain.hosts.host import Host
from controller.domain.planning.targeting import undecided_notes
from controller.services.state.world import World
from controller.views.hosts.fleet import HostsView
from controller.views.hosts.listing import host_view, select_hosts


def find_hosts(world: World, selector: str, where: str) -> HostsView:
    """Return the hosts that meet both; empty ones are met by every host. Raises InvalidInput."""
    found, notes = frozenset(world.hosts), tuple[str, ...]()
    if where:
        matched = matching(condition(where, "where"), (subject_of(world, host) for host in world.hosts.values()))
        found, notes = matched.names, tuple(undecided_notes(matched.undecided))
    views = (host_view(world.hosts[name], world.active_attempt(name), world.fleet) for name in sorted(found))
    return HostsView(select_hosts(views, selector), notes)


def condition(text: str, field: str) -> Expression:
    """Return a checked expression; raises InvalidInput that names the field and shows the place."""
    try:
        return expression(text)
    except ExpressionError as error:
        raise InvalidInput(f"{field}: {pointed(text, error)}") from error


def subject_of(world: World, host: Host) -> Subject:
    """Return an enrolled host as expressions see it."""
    attempt = world.active_attempt(host.name)
    return subject(
        host,
        world.fleet,
        rollout="" if attempt is None else attempt.rollout,
        step="" if attempt is None else attempt.step.value,
    )
