"""Enrolls the hosts of an inventory: what each of them needs is made once, and put there by playbooks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from controller.adapters.local.cache import Cache, Progress
from controller.adapters.plays.bundle import agent_bundle, boot_program, boot_program_name
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent
from controller.adapters.plays.places import units_directory
from controller.adapters.plays.runner import Plays
from controller.domain.errors import InvalidInput

# In the order in which they are started; what an agent says of the others it says when its session begins.
_UNITS: Final = (
    "kernroll-guard.service",
    "kernroll-armed.service",
    "kernroll-armed.timer",
    "kernroll-boot@.service",
    "kernroll-boot.socket",
    "kernroll-agent.service",
)
_LOOK_TIMEOUT_S: Final = 300.0


async def enroll(
    plays: Plays,
    hosts: Sequence[str],
    *,
    cache: Cache,
    addresses: tuple[str, str],
    make_token: Callable[[int], str],
    timeout_s: float,
    told: Callable[[PlayEvent], None],
    progress: Progress,
) -> Mapping[str, HostOutcome]:
    """Return what became of each host; the answer of one that is done holds `enrolled` (before) and `refusals`.

    `addresses` are the controller's for sessions and for enrolling, as hosts reach them; `make_token` is asked once,
    for as many uses as there are hosts that need it. Raises what Plays.run raises, and Temporary without an index of
    Python packages.
    """
    looked = dict(await plays.run("look.yml", hosts, {}, timeout_s=_LOOK_TIMEOUT_S, told=told))
    bundles: dict[str, Mapping[str, Any]] = {}
    for host, outcome in looked.items():
        if not outcome.done:
            continue
        architecture, python = str(outcome.answer.get("architecture")), str(outcome.answer.get("python"))
        if (key := f"{architecture}-{python}") in bundles:
            continue
        try:
            bundle = agent_bundle(cache, architecture, python, progress)
        except InvalidInput as error:
            looked[host] = HostOutcome(host=host, done=False, unreachable=False, task=outcome.task, sentence=str(error))
            continue
        bundles[key] = {**asdict(bundle), "path": str(bundle.path)}
    ready = [host for host, outcome in looked.items() if outcome.done]
    fresh = [host for host in ready if not looked[host].answer.get("enrolled")]
    if not ready:
        return looked
    variables = {
        "kernroll_controller": addresses[0],
        "kernroll_enroll": addresses[1],
        "kernroll_bundles": bundles,
        "kernroll_boot_program": str(_boot_program(cache)),
        "kernroll_units": _units(),
        **({"kernroll_join_token": make_token(len(fresh))} if fresh else {}),
    }
    done = await plays.run("enroll.yml", ready, variables, timeout_s=timeout_s, told=told)
    return {**looked, **done}


def _boot_program(cache: Cache) -> Path:
    content = boot_program()

    def build(directory: Path) -> None:
        (directory / "kernroll-boot").write_bytes(content)

    return cache.publish(f"boot-programs/{boot_program_name(content)}", build) / "kernroll-boot"


def _units() -> Mapping[str, str]:
    directory = units_directory()
    return {name: (directory / name).read_text(encoding="utf-8") for name in _UNITS if (directory / name).is_file()}
