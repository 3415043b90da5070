"""The before/after report is rebuilt from the event log: the cover letter's table, savings, failures, timeline."""

import json
import random
from dataclasses import replace

from rollout_story import Story, free_text
from simulated_fleet import Faults

from controller.domain.delivery import BootEnd
from controller.domain.hosts.host import SwapDevice
from controller.domain.record.events import CommandState, RunReported
from controller.views.models import ReportView
from controller.views.report import report
from controller.views.report.blocks import Bullets, Heading, Paragraph, Table, as_markdown, as_text
from controller.views.report.free import free_output, parse_free


def reported(story: Story) -> ReportView:
    return report(story.rollout, story.attempts, story.events, story.world.hosts)


def promoted(waves: list[list[str]] | None = None, faults: dict[str, Faults] | None = None) -> Story:
    story = Story(waves or [["a"], ["b"]], faults)
    story.run()
    return story


def test_the_cover_letters_table_stands_in_the_text() -> None:
    text = reported(promoted()).text
    assert "x86_64/vm  7.0.13-old      36    855   +819\n" in text
    assert "x86_64/vm  7.1.13-new      36    603   +567\n" in text
    assert "x86_64/vm  change           0   −252   −252\n" in text
    assert "old, after    1454   855   578       0          21        578\n" in text
    assert "x86_64/vm  819.2  567.2  −252.0 (−30.8 %)  11.50 → 7.25" in text
    assert "252.0 (246.2 … 257.8)" in text
    assert "CONFIRMED" in text
    assert " MiB/TiB measured, 816.0 by structure sizes" in " ".join(text.split())


def test_plain_text_fits_a_mailing_list() -> None:
    for faults in ({}, {"a": Faults(trial_end=BootEnd.PANIC)}, {"b": Faults(new_cost=700.0)}):
        text = reported(promoted(faults=faults)).text
        assert max(map(len, text.splitlines())) <= 78
        assert text.endswith("\n") and not text.endswith("\n\n")


def test_the_fleet_total_counts_the_swap_in_production() -> None:
    story = promoted()
    total = json.loads(reported(story).json)["fleet"][0]
    assert (total["hosts"], total["swap_tib"], total["unit"]) == (2, 2.0, "MiB")
    device = SwapDevice(path="/dev/vda2", size_bytes=2**39, used_bytes=0)
    for name, host in story.world.hosts.items():
        story.world.hosts[name] = replace(host, swap_devices=(device,))
    smaller = json.loads(reported(story).json)["fleet"][0]
    assert smaller["swap_tib"] == 1.0
    assert abs(smaller["saving"]["estimate"] * 2 - total["saving"]["estimate"]) < 1e-9


def test_json_has_every_number_with_its_unit() -> None:
    made = json.loads(reported(promoted()).json)
    assert made["schema"] == "kernroll.report/v1"
    host = made["hosts"][0]
    assert (host["host"], host["metric"], host["unit"]) == ("a", "swap_mount.cost", "MiB/TiB")
    assert len(host["old_values"]) == len(host["new_values"]) == 2
    assert (host["boots"], host["warmups"], host["runs"]) == (2, 2, [["ok", 4]])
    table = made["free_tables"][0]
    assert (table["old_before"]["used_mib"], table["new_after"]["used_mib"]) == (36.0, 603.0)
    assert made["started_at"] == "1970-01-01T00:16:40.000Z"
    assert made["timeline"][0]["offset_s"] == 0.0


def test_the_same_log_gives_the_same_bytes() -> None:
    story = promoted([["a", "b"], ["c"]])
    first = reported(story)
    shuffled = list(story.attempts.items())
    random.Random(7).shuffle(shuffled)
    assert report(story.rollout, dict(shuffled), story.events, dict(story.world.hosts)) == first
    assert reported(promoted([["a", "b"], ["c"]])) == first


def test_a_reverted_rollout_names_host_line_and_time_to_revert() -> None:
    made = reported(promoted(faults={"a": Faults(trial_end=BootEnd.PANIC)}))
    assert "Reverted: a: the kernel panicked" in made.text
    assert (
        "- a (x86_64/vm): the kernel panicked: “Kernel panic - not syncing: simulated”;\n"
        "  back on its old kernel after 18 s."
    ) in made.text
    failure = json.loads(made.json)["failures"][0]
    assert (failure["kind"], failure["back_after_s"], failure["condemns_kernel"]) == ("panic", 18.5, True)
    assert "trial boot ended, panic: “Kernel panic - not syncing: simulated”" in made.text
    assert "heard under 7.0.13-old, boot a-boot-3" in made.text


def test_a_lost_host_is_not_called_back() -> None:
    made = reported(promoted(faults={"a": Faults(trial_end=BootEnd.PANIC, never_returns=True)}))
    assert "it is not back on its old kernel" in " ".join(made.text.split())
    assert "- Not back: a." in made.text


def test_a_rig_failure_says_that_the_kernel_was_not_touched() -> None:
    made = reported(promoted(faults={"a": Faults(refused="stage")}))
    said = " ".join(made.text.split())
    assert "a (x86_64/vm): stage was refused; its kernel was not touched (this does not speak against" in said


def test_runs_that_died_and_outliers_are_counted_and_named() -> None:
    story = Story([["a"]], {"a": Faults(measurements=[CommandState.DIED])})
    story.run()
    assert ["died", 1] in json.loads(reported(story).json)["hosts"][0]["runs"]
    odd = [
        (stream, _far(event) if isinstance(event, RunReported) and event.index == 2 else event)
        for stream, event in story.events
    ]
    made = report(story.rollout, story.attempts, odd, story.world.hosts)
    assert "a, old kernel, run 2: 869.2 MiB/TiB" in made.text


def _far(event: RunReported) -> RunReported:
    return replace(event, values={**event.values, "swap_mount.cost": event.values["swap_mount.cost"] + 50.0})


def test_a_rollout_that_has_measured_nothing_has_a_report() -> None:
    story = Story([["a"]])
    made = reported(story)
    assert made.text.startswith("trial: running\n")
    assert "free -m" not in made.text
    assert json.loads(made.json)["costs"] == []


def test_a_host_that_is_not_enrolled_any_more_is_told_without_its_machine() -> None:
    story = promoted([["a"]])
    made = report(story.rollout, story.attempts, story.events, {})
    assert "- a: x86_64/vm." in made.text


def test_free_is_read_by_its_titles() -> None:
    parsed = parse_free(free_text(855, mounted=True))
    assert parsed is not None
    assert parsed.used_mib == 855.0
    assert parsed.lines[1] == ("Swap", ("1048575", "0", "1048575"))
    assert parse_free("") is None
    assert parse_free("free: command not found") is None
    assert parse_free("total used\nMem: many few") is None
    fallback = free_output({}, {"swap_mount.used_before": 36.4}, "before")
    assert fallback is not None
    assert fallback.lines == (("Mem", ("36",)),)
    assert free_output({}, {}, "before") is None


def test_markdown_escapes_what_kernels_say() -> None:
    blocks = (
        Heading(1, "a_b"),
        Paragraph("BUG: *bad* <page> [1] _x"),
        Bullets(("one",)),
        Table(titles=("Host", "Old"), rows=(("a|b", "1"),), numbers=frozenset({1})),
    )
    assert as_markdown(blocks) == (
        "# a_b\n\nBUG: \\*bad\\* \\<page\\> \\[1\\] \\_x\n\n- one\n\n| Host | Old |\n| --- | ---: |\n| a\\|b | 1 |\n"
    )
    assert as_markdown(()) == "\n"


def test_a_table_that_is_too_wide_becomes_records() -> None:
    wide = Table(titles=("Host", "First", "Second"), rows=(("a", "x" * 60, "y" * 40),))
    text = as_text((wide,))
    assert max(map(len, text.splitlines())) <= 78
    assert text.startswith("- a: First xxxx")
    last = Table(titles=("Host", "What"), rows=(("a", "word " * 30),))
    assert as_text((last,)).splitlines()[2].startswith("a     word")
