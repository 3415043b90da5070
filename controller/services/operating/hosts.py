"""Which of the enrolled hosts an operator means."""

from controller.domain.errors import InvalidInput
from controller.domain.fleet.denials import subject
from controller.domain.hosts.expressions import Expression, ExpressionError, expression, pointed
from controller.domain.hosts.facts import Subject, fact_text
from controller.domain.hosts.host import Host
from controller.domain.hosts.matching import matching
from controller.domain.planning.targeting import undecided_notes
from controller.services.state.world import World
from controller.views.hosts.fleet import HostsView
from controller.views.hosts.listing import host_view


def find_hosts(world: World, selector: str, where: str) -> HostsView:
    """Return the hosts that meet both; empty ones are met by every host. Raises InvalidInput."""
    wanted, notes = pairs(selector), tuple[str, ...]()
    subjects = [subject_of(world, host) for host in world.hosts.values()]
    if wanted:
        subjects = [one for one in subjects if all(fact_text(one, name) == value for name, value in wanted)]
    names = [one.host.name for one in subjects]
    if where:
        matched = matching(condition(where, "where"), subjects)
        names, notes = list(matched.names), tuple(undecided_notes(matched.undecided))
    views = (host_view(world.hosts[name], world.active_attempt(name), world.fleet, boots=0) for name in sorted(names))
    return HostsView(tuple(views), notes)


def pairs(selector: str) -> tuple[tuple[str, str], ...]:
    """Return a comma-separated selector's names and values. Raises InvalidInput for a part without "="."""
    found: list[tuple[str, str]] = []
    for part in filter(None, (part.strip() for part in selector.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InvalidInput(f"selector: {part!r} must be name=value, for example architecture=arm64")
        found.append((key.strip(), value.strip()))
    return tuple(found)


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
