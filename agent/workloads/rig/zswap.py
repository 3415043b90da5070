"""zswap as an order wants it for the run, and as it was before."""

from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.work.leftovers import ZswapSettings
from agent.workloads.port import Host

NO_ZSWAP = "this kernel has no zswap; leave it out, or run a kernel that has CONFIG_ZSWAP"


def has_zswap(host: Host) -> bool:
    """Return whether this kernel has zswap."""
    return _parameters(host).exists()


def zswap_change(host: Host, swap: SwapSource) -> str:
    """Return "on" or "off" when a run would switch it so; empty when it stays as it is."""
    if swap.zswap:
        return "on"
    if swap.kind is SourceKind.EXISTING or not has_zswap(host):
        return ""
    return "off" if host.files.read(_parameters(host) / "enabled") == "Y" else ""


def set_zswap(host: Host, swap: SwapSource) -> None:
    """Switch zswap on, or off, as ordered; the host's own swap keeps it as it is unless asked. Raises RigError."""
    parameters = _parameters(host)
    if not has_zswap(host):
        if swap.zswap:
            raise RigError(NO_ZSWAP)
        return
    if swap.kind is SourceKind.EXISTING and not swap.zswap:
        return
    wanted = {
        "compressor": swap.zswap_compressor,
        "max_pool_percent": str(swap.zswap_max_pool_percent or ""),
        "enabled": "Y" if swap.zswap else "N",
    }
    before = {name: host.files.read(parameters / name) for name in wanted}
    changes = {name: value for name, value in wanted.items() if value and value != before[name]}
    if not changes:
        return
    changed = {name: before[name] if name in changes else "" for name in wanted}
    host.leftovers.note(ZswapSettings(**changed))
    for name, value in changes.items():
        try:
            host.files.write(parameters / name, value)
        except OSError as error:
            raise RigError(
                f"zswap's {name} cannot be set to {value}: {error.strerror}; is it in this kernel?"
            ) from error


def restore_zswap(host: Host, before: ZswapSettings) -> None:
    """Write back what was changed."""
    for name in ("enabled", "compressor", "max_pool_percent"):
        value = str(getattr(before, name))
        if value:
            host.files.write(_parameters(host) / name, value)


def zswap_state(host: Host) -> str:
    """Return zswap's parameters as evidence; empty where there is no zswap."""
    parameters = _parameters(host)
    if not parameters.exists():
        return ""
    return "\n".join(f"{each.name} {host.files.read(each)}" for each in sorted(parameters.iterdir()))


def _parameters(host: Host) -> Path:
    return host.sys / "module/zswap/parameters"
