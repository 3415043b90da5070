"""Logs that an earlier version wrote: they are decoded and folded, and their reports are the same to the last byte.

Recorded before the packages had their present names, so a name on disk that moves with a package fails here. `demo`
and `refuted` are `make demo` on real virtual machines, with KERNELS=6.19.14:7.0.13 for the second; `controls` is a
simulated rollout with control hosts, `steered` one that its operators froze, promoted and reverted.
"""

import gzip
import json
from typing import Any

import pytest
from project import ROOT

from controller.adapters.store.codec import decode_event, decode_host, encode
from controller.domain.state.rollout import State
from controller.services.state.world import folded
from controller.views.report import report

RECORDED = ROOT / "tests" / "support" / "recorded"
ENDS = {
    "demo": {"swap-table": State.PROMOTED, "bad-kernel": State.REVERTED},
    "refuted": {"swap-table": State.REVERTED, "bad-kernel": State.REVERTED},
    "controls": {"designed": State.PROMOTED},
    "steered": {"drawn": State.REVERTED},
}


@pytest.fixture(params=sorted(ENDS), name="recorded")
def _recorded(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    document = json.loads(gzip.decompress((RECORDED / f"{request.param}.json.gz").read_bytes()))
    return request.param, document


def _text(fields: object) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _as_known_then(now: Any, then: Any) -> Any:
    """Return what would be written now without what has come since and says nothing."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: _as_known_then(now[key], then.get(key)) for key in now if key in then or now[key]}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [_as_known_then(*both) for both in zip(now, then, strict=True)]
    return now


def test_what_was_written_is_read_and_written_again(recorded: tuple[str, dict[str, Any]]) -> None:
    for one in recorded[1]["events"]:
        now = json.loads(encode(decode_event(one["kind"], _text(one["payload"]))))
        assert _as_known_then(now, one["payload"]) == one["payload"]


def test_reports_are_the_same_to_the_last_byte(recorded: tuple[str, dict[str, Any]]) -> None:
    name, document = recorded
    events = [(one["stream"], decode_event(one["kind"], _text(one["payload"]))) for one in document["events"]]
    hosts = {each["name"]: decode_host(each["name"], _text(each)) for each in document["hosts"]}
    world = folded(events, hosts)
    assert {one.name: one.state for one in world.rollouts.values()} == ENDS[name]
    for uid, rollout in world.rollouts.items():
        own = [
            (stream, event)
            for stream, event in events
            if stream == f"rollout/{uid}" or stream.startswith(f"attempt/{uid}/")
        ]
        made, told = report(rollout, world.attempts[uid], own, hosts), document["reports"][f"{rollout.name}/{uid}"]
        assert {form: getattr(made, form) for form in told} == told
