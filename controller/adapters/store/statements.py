"""The statements of every commit, made once: making one takes longer than running it."""

from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select, update

from controller.adapters.store import tables

# Locked for the rest of the transaction where several may write at a time; SQLite has one writer anyway.
META: Final = select(tables.meta.c.value).where(tables.meta.c.name == bindparam("name")).with_for_update()
HEAD: Final = select(tables.log_head)
SET_HEAD: Final = update(tables.log_head).values(number=bindparam("to_number"), digest=bindparam("to_digest"))
REPORT: Final = select(tables.reports.c.report_id).where(tables.reports.c.report_id == bindparam("report_id"))
ADD_REPORT: Final = insert(tables.reports)
REVISION: Final = select(func.coalesce(func.max(tables.events.c.revision), 0)).where(
    tables.events.c.stream == bindparam("stream")
)
ADD_EVENTS: Final = insert(tables.events)
DROP_EFFECTS: Final = delete(tables.effects).where(tables.effects.c.stream == bindparam("stream"))
ADD_EFFECTS: Final = insert(tables.effects)
DROP_EFFECT: Final = delete(tables.effects).where(tables.effects.c.command_id == bindparam("command_id"))
DROP_HOST: Final = delete(tables.hosts).where(tables.hosts.c.name == bindparam("name"))
ADD_HOST: Final = insert(tables.hosts)
