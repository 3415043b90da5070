"""Modules that a command loads: what else each brings along, and unloading all of it again."""

from pathlib import Path

from agent.domain.errors import RigError
from agent.workloads.port import Host

_TOOL_TIMEOUT_S = 60.0


async def brought_along(host: Host, module: str) -> str:
    """Return the modules that loading one would load first, in that order, separated by spaces."""
    shown = await host.tools.run(("modprobe", "--show-depends", module), timeout_s=_TOOL_TIMEOUT_S)
    if shown.status:
        # Loading it will fail, and say why.
        return ""
    # Lines as "insmod /lib/modules/7.1.13/kernel/mm/zsmalloc.ko.xz"; what is built in has another first word.
    files = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("insmod ")]
    names = [Path(file).name.partition(".")[0].replace("-", "_") for file in files]
    return " ".join(name for name in names if name != module and not is_loaded(host, name))


async def unload(host: Host, module: str, brought: str) -> None:
    """Unload a module, then what it brought along; what somebody else has come to use stays. Raises RigError."""
    completed = await host.tools.run(("rmmod", module), timeout_s=_TOOL_TIMEOUT_S)
    if completed.status and is_loaded(host, module):
        raise RigError(f"{module} cannot be unloaded: {completed.complaint}")
    for name in reversed(brought.split()):
        if is_loaded(host, name):
            await host.tools.run(("rmmod", name), timeout_s=_TOOL_TIMEOUT_S)


def is_loaded(host: Host, module: str) -> bool:
    """Return whether a module is loaded, or built in and shown like one."""
    return (host.sys / "module" / module).exists()
