"""Another change on a host between its kernels is told, and voids what it measured where the rollout file says so."""

import json
from dataclasses import replace
from typing import Any

import pytest
from rollout_story import Story, telling
from simulated_fleet import SPEC, Simulation
from simulated_host import OLD_RELEASE, Faults
from spec_texts import BODY, HEAD, refusal

from controller.domain.judging.confounders import differences
from controller.domain.record.events import Event, RunReported
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.state.environments import recorded
from controller.domain.state.rollout import State
from controller.views.report import report
from controller.views.rollouts.confounders import confounder_lines
from controller.views.rollouts.explain import explain

OLD_ENVIRONMENT: dict[str, Any] = {
    "schema": 1,
    "kernel_release": "7.0.13",
    "kernel_version": "#1 SMP old",
    "kernel_command_line": "BOOT_IMAGE=/vmlinuz-7.0.13 root=/dev/nvme0n1 quiet",
    "kernel_config": {"CONFIG_SWAP": "y"},
    "kernel_config_sha256": "a",
    "boot_id": "1",
    "memory_bytes": 1_500_000_000,
    "cpu_count": 2,
    "frequency_governor": "performance",
    "agent_version": "0.1.0",
    "vm": {"swappiness": "60"},
    "huge_pages": {"enabled": "madvise"},
    "tools": {"mkswap": "mkswap from util-linux 2.41"},
}
# What another kernel alone changes: its names, its share of the memory, files that only it has.
NEW_ENVIRONMENT: dict[str, Any] = {
    **OLD_ENVIRONMENT,
    "kernel_release": "7.1.13",
    "kernel_version": "#1 SMP new",
    "kernel_command_line": "BOOT_IMAGE=/vmlinuz-7.1.13 root=/dev/nvme1n1 quiet",
    "kernel_config": {"CONFIG_SWAP": "y", "CONFIG_NEW": "y"},
    "kernel_config_sha256": "b",
    "boot_id": "2",
    "memory_bytes": 1_496_000_000,
    "huge_pages": {"enabled": "madvise", "hugepages-16kB enabled": "inherit"},
}


class Changing(Story):
    """Hosts whose runs bring their environment along, with a change between the kernels on some."""

    def __init__(
        self, changed: dict[str, dict[str, Any]], *, void: bool = False, silent: tuple[str, ...] = (), **named: Any
    ) -> None:
        """`changed` are the fields that differ under the new kernel, by host; `silent` hosts tell nothing of it."""
        self.changed = changed
        self.silent = silent
        spec = f"{SPEC}  confounders: {'void' if void else 'show'}\n"
        super().__init__(named.pop("waves", [["a", "b"]]), spec=spec, **named)

    def record(self, key: Key, event: Event) -> None:
        """Record the event with the environment that the first run of a command has."""
        event = telling(event)
        if isinstance(event, RunReported) and event.index == 0:
            old = event.release == OLD_RELEASE
            environment = OLD_ENVIRONMENT if old else {**NEW_ENVIRONMENT, **self.changed.get(key.host, {})}
            if old or key.host not in self.silent:
                event = replace(event, evidence={**event.evidence, "environment": json.dumps(environment)})
        Simulation.record(self, key, event)


def told(fleet: Changing) -> tuple[str, ...]:
    return confounder_lines(fleet.rollout, [fleet.attempts[name] for name in sorted(fleet.attempts)])


def test_another_kernel_alone_is_no_other_change() -> None:
    fleet = Changing({})
    fleet.run()
    assert fleet.rollout.state is State.PROMOTED
    assert [run.environment != "" for run in fleet.attempts["a"].runs] == [True, False, False] * 2
    assert told(fleet) == ()


@pytest.mark.parametrize(
    ("change", "name", "before", "after"),
    [
        ({"vm": {"swappiness": "10"}}, "vm.swappiness", "60", "10"),
        ({"frequency_governor": "powersave"}, "frequency_governor", "performance", "powersave"),
        ({"agent_version": "0.2.0"}, "agent_version", "0.1.0", "0.2.0"),
        ({"huge_pages": {"enabled": "always"}}, "huge_pages.enabled", "madvise", "always"),
        ({"cpu_count": 4}, "cpu_count", "2", "4"),
        ({"memory_bytes": 3_000_000_000}, "memory_bytes", "1500000000", "3000000000"),
        (
            {"kernel_command_line": "BOOT_IMAGE=/x root=/dev/a quiet mitigations=off"},
            "kernel_command_line",
            "",
            "mitigations=off",
        ),
    ],
)
def test_what_changed_is_told_with_both_values(change: dict[str, Any], name: str, before: str, after: str) -> None:
    fleet = Changing({"a": change})
    fleet.run()
    (found,) = differences(fleet.rollout, fleet.attempts["a"])
    assert (found.host, found.name, found.before, found.after) == ("a", name, before, after)
    assert differences(fleet.rollout, fleet.attempts["b"]) == ()


def test_what_the_rollout_itself_appends_to_the_command_line_is_no_other_change() -> None:
    line = {"kernel_command_line": "BOOT_IMAGE=/x quiet zswap.enabled=1"}
    fleet = Changing({"a": line})
    fleet.run()
    assert [one.after for one in differences(fleet.rollout, fleet.attempts["a"])] == ["zswap.enabled=1"]
    kernels = {"x86_64": replace(fleet.rollout.kernels["x86_64"], command_line="zswap.enabled=1")}
    assert differences(replace(fleet.rollout, kernels=kernels), fleet.attempts["a"]) == ()


def test_a_change_is_shown_and_counts_all_the_same_unless_it_is_void() -> None:
    change = {"vm": {"swappiness": "10"}}
    fleet = Changing({"a": change, "b": change})
    fleet.run()
    assert fleet.rollout.state is State.PROMOTED
    sentence = (
        "Beside the kernel vm.swappiness changed from “60” to “10” on a and b; what they measured counts all the same."
    )
    assert told(fleet) == (sentence,)
    assert sentence in explain(fleet.rollout, fleet.attempts, "trial").evidence
    made = report(fleet.rollout, fleet.attempts, fleet.events, fleet.world.hosts)
    assert sentence in " ".join(made.text.split())
    assert json.loads(made.json)["confounders"] == [sentence]


def test_where_it_is_void_the_wave_is_held_and_names_host_and_change() -> None:
    fleet = Changing({"a": {"vm": {"swappiness": "10"}}}, void=True)
    fleet.run()
    assert fleet.rollout.state is State.PAUSED
    assert fleet.rollout.held_wave
    assert "a could not be measured: beside the kernel vm.swappiness (60 → 10) changed" in fleet.rollout.reason
    assert "does not count" in told(fleet)[0]


def test_where_it_is_void_a_bad_figure_of_a_changed_host_condemns_no_kernel() -> None:
    refuted = {"a": Faults(new_cost=900.0)}
    for changed, state in (({}, State.REVERTED), ({"a": {"vm": {"swappiness": "10"}}}, State.PAUSED)):
        fleet = Changing(changed, void=True, waves=[["a"]], faults=refuted, on_refuted="revert")
        fleet.run()
        assert fleet.rollout.state is state
        assert fleet.step("a") is (Step.REVERTED if state is State.REVERTED else Step.DONE)


def test_where_it_is_void_no_record_of_the_environment_is_no_better() -> None:
    shown, void = Changing({}, silent=("a",)), Changing({}, silent=("a",), void=True)
    for fleet in (shown, void):
        fleet.run()
    assert shown.rollout.state is State.PROMOTED
    assert "its environment is not on record under both kernels" in void.rollout.reason


@pytest.mark.parametrize("document", ["", "no json", "[1]", '"text"', "null"])
def test_a_document_that_cannot_be_read_is_none(document: str) -> None:
    assert recorded({"environment": document}) == ""
    assert recorded({}) == ""


def test_the_rollout_file_chooses_between_two_words() -> None:
    (line,) = refusal(f"{HEAD}{BODY}  confounders: ignore\n")
    assert "spec.confounders: must be show or void (got 'ignore')" in line
