"""Whatever a pair of kernels turns out to be, the demonstration tells it, and ends with success when that is right."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rollout_story import Story
from simulated_host import Faults

from controller.cli.lab import demonstration
from controller.domain.delivery import BootEnd
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec
from controller.lab.demo import BAD, GOOD, Specs, Versions, first_part
from controller.views.models import RolloutView
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view

Captured = pytest.CaptureFixture[str]
VERSIONS = Versions(old="6.19.14", new="7.0.13")
SPECS = Specs(versions=VERSIONS, architectures=("x86_64", "arm64"), repetitions=2, ram_disk=True)


def view_of(story: Story, name: str = GOOD) -> RolloutView:
    return replace(rollout_view(story.rollout, story.attempts, {}, story.now), name=name)


def ended(**more: Any) -> Story:
    story = Story([["a"]], **more)
    story.run()
    return story


PROMOTED = {}
REFUTED: dict[str, Any] = {"faults": {"a": Faults(new_cost=819.0)}, "on_refuted": "revert"}
PAUSED: dict[str, Any] = {"faults": {"a": Faults(new_cost=819.0)}, "on_refuted": "pause"}
PANICKED: dict[str, Any] = {"faults": {"a": Faults(trial_end=BootEnd.PANIC)}}
LOST: dict[str, Any] = {"faults": {"a": Faults(trial_end=BootEnd.PANIC, never_returns=True)}}


@pytest.mark.parametrize(
    ("how", "went_right", "running", "said"),
    [
        (PROMOTED, True, "7.0.13", ""),
        (REFUTED, True, "6.19.14", "do not keep what is claimed for them"),
        (PAUSED, False, "", f"{BAD} is left out"),
        (PANICKED, False, "6.19.14", "the kernel panicked"),
        (LOST, False, "", f"{BAD} is left out"),
    ],
    ids=["promoted", "refuted", "paused", "panicked", "lost"],
)
def test_what_the_first_part_means_for_the_second(
    how: dict[str, Any], said: str, running: str, *, went_right: bool
) -> None:
    first = first_part(view_of(ended(**how)), VERSIONS)
    assert (first.went_right, first.running) == (went_right, running)
    assert said in first.text
    assert bool(first.text) == bool(said)


@pytest.mark.parametrize("ram_disk", [True, False])
@pytest.mark.parametrize("running", ["6.19.14", "7.0.13"])
def test_the_second_rollout_expects_what_hosts_run(running: str, *, ram_disk: bool) -> None:
    specs = replace(SPECS, ram_disk=ram_disk)
    bad: RolloutSpec = parse_spec(specs.bad(running=running), "bad.yaml")
    assert {one.version for one in bad.expected.values()} == {running}
    # It is another kernel than the one that may be denied by now.
    assert bad.kernels != parse_spec(specs.good(), "good.yaml").kernels


class Controller:
    """Two rollouts that have ended, as an operator's client sees them."""

    def __init__(self, first: Story) -> None:
        self.stories = {GOOD: first, BAD: ended(**PANICKED)}
        self.started: list[str] = []

    @contextmanager
    def client(self) -> Iterator["Controller"]:
        yield self

    def start_rollout(self, spec: str, file: str) -> None:
        self.started.append(Path(file).stem)

    def get_rollout(self, name: str) -> RolloutView:
        return view_of(self.stories[name], name)

    def report_rollout(self, name: str) -> Any:
        return SimpleNamespace(text=f"report of {name}", markdown="", json="{}")

    def explain_rollout(self, name: str) -> Any:
        story = self.stories[name]
        return explain(story.rollout, story.attempts, name)


@pytest.mark.parametrize(
    ("how", "went_right", "started"),
    [
        (PROMOTED, True, [GOOD, BAD]),
        (REFUTED, True, [GOOD, BAD]),
        (PAUSED, False, [GOOD]),
        (PANICKED, False, [GOOD, BAD]),
    ],
    ids=["promoted", "refuted", "paused", "panicked"],
)
def test_the_story_is_told_to_its_end(
    how: dict[str, Any],
    started: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    *,
    went_right: bool,
) -> None:
    controller: Any = Controller(ended(**how))
    monkeypatch.setattr(demonstration, "follow", lambda *_, **__: 0)
    story = demonstration._Story(5)
    assert demonstration._roll_both(story, controller, tmp_path, SPECS) is went_right
    assert controller.started == started
    assert sorted(path.stem for path in (tmp_path / "reports").glob("*.txt")) == sorted(started)
    shown = " ".join(capsys.readouterr().out.split())
    if how is REFUTED:
        assert "The next rollout starts from 6.19.14 instead of 7.0.13." in shown
    if BAD not in started:
        assert f"{BAD} is left out" in shown
