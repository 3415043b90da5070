"""Which of the enrolled hosts an operator means."""

from collections.abc import Iterable, Iterator, Mapping

from controller.domain.errors import InvalidInput
from controller.domain.expressions import Expression, ExpressionError, expression, pointed
from controller.domain.host_facts import Subject, matching
from controller.services.world import World
from controller.views.fleet import HostsView
from controller.views.hosts import host_view, select_hosts
from controller.views.quantities import names_text


def find_hosts(world: World, selector: str, where: str) -> HostsView:
    """Return the hosts that meet both; empty ones are met by every host. Raises InvalidInput."""
    found, notes = frozenset(world.hosts), tuple[str, ...]()
    if where:
        matched = matching(condition(where, "where"), subjects(world))
        found, notes = matched.names, tuple(undecided_notes(matched.undecided))
    views = (host_view(world.hosts[name], world.active_attempt(name), world.fleet) for name in sorted(found))
    return HostsView(select_hosts(views, selector), notes)


def condition(text: str, field: str) -> Expression:
    """Return a checked expression; raises InvalidInput that names the field and shows the place."""
    try:
        return expression(text)
    except ExpressionError as error:
        raise InvalidInput(f"{field}: {pointed(text, error)}") from error


def subjects(world: World) -> Iterator[Subject]:
    """Yield every enrolled host as expressions see it."""
    fleet = world.fleet
    for host in world.hosts.values():
        attempt = world.active_attempt(host.name)
        yield Subject(
            host=host,
            labels=fleet.labels_of(host),
            quarantined=host.name in fleet.quarantined,
            rollout="" if attempt is None else attempt.rollout,
            step="" if attempt is None else attempt.step.value,
        )


def undecided_notes(undecided: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield a sentence for every reason why hosts neither match nor do not."""
    for why, hosts in undecided.items():
        names = list(hosts)
        yield f"{names_text(names)} {why if len(names) == 1 else _of_many(why)}: left out."


def _of_many(why: str) -> str:
    return why.replace("has ", "have ", 1).replace("does not tell its", "do not tell their", 1)
