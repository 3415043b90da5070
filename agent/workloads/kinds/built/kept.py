"""A directory whose making takes long and that is kept for later commands, on the host's disk."""

import asyncio
from pathlib import Path

from agent.domain.work.leftovers import MadeDirectory
from agent.workloads.kinds.built.kernel_source import state_of
from agent.workloads.port import Host

# In the directory: it is complete, and made from what is written here.
_STAMP = "prepared-from"
_SYNC_TIMEOUT_S = 300.0
_ASK_TIMEOUT_S = 60.0


async def made_for(host: Host, source: str, *also: str) -> str:
    """Return what such a directory depends on: another one of these, and it is prepared anew."""
    compiler = await host.tools.run(("gcc", "--version"), timeout_s=_ASK_TIMEOUT_S)
    # A large directory on a slow disk takes a while.
    state = await asyncio.to_thread(state_of, source)
    return "\n".join((source, state, *also, compiler.stdout.split("\n")[0]))


def is_kept(host: Host, kept: Path) -> bool:
    """Return whether there is a complete directory, whatever it was made for."""
    return host.files.exists(kept / _STAMP)


async def still_fits(host: Host, kept: Path, wanted: str) -> bool:
    """Return whether the directory is complete and made for what is wanted; remove it when it is for something else."""
    if not is_kept(host, kept):
        return False
    if host.files.read(kept / _STAMP) != wanted.strip():
        await host.files.remove_tree(kept)
        return False
    return True


async def keep(host: Host, kept: Path, wanted: str) -> None:
    """Mark the directory as complete; from then on it is nobody's leftover, and a killed run leaves it as it is."""
    # The stamp says that all is there, also to a host that loses its power next.
    await host.tools.run(("sync",), timeout_s=_SYNC_TIMEOUT_S)
    host.files.make_sparse(kept / _STAMP, 0)
    host.files.write(kept / _STAMP, wanted)
    await host.tools.run(("sync",), timeout_s=_SYNC_TIMEOUT_S)
    host.leftovers.forget(MadeDirectory(path=str(kept)))
