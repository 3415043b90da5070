"""Tokens and enrolled hosts: the statements, each within a transaction of the caller."""

from dataclasses import asdict

from sqlalchemy import Connection, delete, func, insert, select, update

from controller.adapters.store import tables
from controller.domain.errors import Conflict, Permanent
from controller.services.records import Enrolled, TokenGrant, not_enrolled, taken, unusable_token


def create_token(connection: Connection, grant: TokenGrant) -> None:
    """See Store.create_token."""
    connection.execute(insert(tables.tokens).values(asdict(grant)))


def redeem_token(connection: Connection, secret_digest: str, enrolled: Enrolled, now: float) -> None:
    """See Store.redeem_token."""
    token = tables.tokens.c.secret_digest == secret_digest
    row = connection.execute(select(tables.tokens).where(token)).first()
    # However it is spelled, a name is one.
    mine = func.lower(tables.enrolled.c.host) == enrolled.host.lower()
    known = connection.execute(select(tables.enrolled).where(mine)).all()
    again = any(one.key_digest == enrolled.key_digest for one in known)
    if row is None or row.expires_at <= now or (row.uses < 1 and not again):
        raise Permanent(unusable_token())
    if known and not again:
        raise Conflict(taken(known[0].host))
    if not again:
        connection.execute(update(tables.tokens).where(token).values(uses=tables.tokens.c.uses - 1))
    same_key = tables.enrolled.c.key_digest == enrolled.key_digest
    connection.execute(delete(tables.enrolled).where(mine, same_key))
    connection.execute(insert(tables.enrolled).values(asdict(enrolled)))


def renewed(connection: Connection, enrolled: Enrolled) -> None:
    """See Store.renewed."""
    mine = (tables.enrolled.c.host == enrolled.host) & (tables.enrolled.c.key_digest == enrolled.key_digest)
    values = {"serial": enrolled.serial, "not_after": enrolled.not_after}
    if connection.execute(update(tables.enrolled).where(mine).values(values)).rowcount != 1:
        raise Conflict(not_enrolled(enrolled.host))


def all_enrolled(connection: Connection) -> tuple[Enrolled, ...]:
    """See Store.enrolled."""
    rows = connection.execute(select(tables.enrolled).order_by(tables.enrolled.c.host))
    return tuple(Enrolled(**row._mapping) for row in rows)


def forget(connection: Connection, host: str) -> None:
    """Remove what is kept of a host's identity and facts."""
    connection.execute(delete(tables.enrolled).where(tables.enrolled.c.host == host))
    connection.execute(delete(tables.hosts).where(tables.hosts.c.name == host))
