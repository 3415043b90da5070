"""What hosts said before there were bounds stays in the log: every view of it can be told, and nothing is forged."""

import json
import math
from dataclasses import replace

import pytest
from rollout_story import Story, telling
from simulated_fleet import Simulation

from controller.adapters.rpc.messages import epoch, from_message, timestamp, to_message
from controller.cli.output import cells, show_json
from controller.domain.record.events import Event, RunReported
from controller.domain.record.names import Key
from controller.views.hosts.listing import host_view
from controller.views.json import view_data
from controller.views.models import HostView, ReportView, RolloutView
from controller.views.report import report
from controller.views.report.blocks import Bullets, Heading, Paragraph, Table, as_markdown, as_text
from controller.views.report.conditions import conditions
from controller.views.report.free import parse_free
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view
from controller.words import LAST_MOMENT, duration_text, number_text, offset_text, signed_text, time_iso, time_text
from protos.kernroll.v1 import operator_pb2

FORGED = "another: promoted"
FORGING = f"x\n\n# {FORGED}\r\n| a | b |\n|---|---|\n\x1b[2J\x9b31m\u202e\u2028{FORGED}"
STRANGE = [1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan]
DEEP = "[" * 70_000


class OldLog(Story):
    """A rollout whose hosts said hostile things that an earlier controller kept as they were."""

    def __init__(self, value: float) -> None:
        """Use this value for one run of every host."""
        self.value = value
        super().__init__([["a"], ["b"]])

    def record(self, key: Key, event: Event) -> None:
        """Record the event with what is hostile in it."""
        told = telling(event)
        if isinstance(told, RunReported):
            texts = dict.fromkeys(("zram_comp_algorithm", "environment", "proc_swaps", "command"), DEEP)
            values = {**told.values, "swap_mount.swapon_time": self.value, FORGING: 1.0}
            if told.index == 1:
                values["swap_mount.used_after"] = self.value
            told = replace(
                told, at=1e17, values=values, error=FORGING, evidence={**told.evidence, **texts, FORGING: FORGING}
            )
        Simulation.record(self, key, told)


def views(story: Story) -> tuple[ReportView, RolloutView]:
    hosts = {
        name: replace(host, kernel_version=FORGING, labels={FORGING: FORGING}, kernel_command_line=FORGING)
        for name, host in story.world.hosts.items()
    }
    made = report(story.rollout, story.attempts, story.events, hosts)
    return made, rollout_view(story.rollout, story.attempts, {}, 0.0)


@pytest.mark.parametrize("value", STRANGE, ids=str)
def test_every_view_of_a_hostile_log_can_be_told(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    story = OldLog(value)
    story.run()
    made, status = views(story)
    document = json.loads(made.json)
    assert document["hosts"][0]["old_swapon_s"] is None or math.isfinite(document["hosts"][0]["old_swapon_s"])
    for text in (made.text, made.markdown, made.letter):
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith(("# " + FORGED, FORGED, "| a | b")) for line in text.splitlines())
    show_json(status)
    json.loads(capsys.readouterr().out)
    explain(story.rollout, story.attempts, "trial", ())
    told = from_message(to_message(status, operator_pb2.Rollout), RolloutView)
    assert told.name == status.name


@pytest.mark.parametrize("value", STRANGE, ids=str)
def test_a_value_that_cannot_be_told_is_no_data_and_the_report_says_so(value: float) -> None:
    class Spoiled(Story):
        def record(self, key: Key, event: Event) -> None:
            if isinstance(event, RunReported) and not event.warmup and key.host == "a":
                event = replace(event, values={**event.values, "swap_mount.cost": value})
                Simulation.record(self, key, event)
                return
            super().record(key, event)

    story = Spoiled([["a"], ["b"]])
    story.run()
    # Nothing was measured on this host: no confirmation may rest on it.
    assert story.rollout.state.value != "promoted"
    made = report(story.rollout, story.attempts, story.events, story.world.hosts)
    assert "cannot be told and is left out" in " ".join(made.text.split())
    json.loads(made.json)


@pytest.mark.parametrize("value", STRANGE, ids=str)
def test_numbers_times_and_json_have_a_word_for_everything(value: float) -> None:
    for told in (number_text(value), signed_text(value), duration_text(value), offset_text(value), time_text(value)):
        assert told
    assert time_iso(value).endswith("Z")
    assert epoch(timestamp(value)) <= LAST_MOMENT
    json.dumps(view_data({"value": value, "values": (value,)}), allow_nan=True)
    assert view_data(math.inf) is None


@pytest.mark.parametrize("word", ["²", "٣", "9" * 5000, "1_0", "-1", "1e9", ""])
def test_what_is_no_plain_number_is_none(word: str) -> None:
    assert parse_free(f"       total used free\nMem:  {word} {word} 3\n") is None
    told = {"cgroup_memory_max": word, "proc_swaps": f"Filename Type Size\n/dev/zram0 partition {word}\n"}
    assert list(conditions(told)) == []


def test_a_host_cannot_write_on_a_terminal() -> None:
    story = Story([["a"], ["b"]])
    host = replace(next(iter(story.world.hosts.values())), kernel_version=FORGING, labels={FORGING: FORGING})
    view = from_message(to_message(host_view(host), operator_pb2.Host), HostView)
    for text in (view.facts.kernel_version, *view.facts.labels, *view.facts.labels.values()):
        assert not {"\x1b", "\x9b", "\u202e", "\u2028"} & set(text)
    assert all(one.isprintable() for one in cells(view.facts.kernel_version, FORGING))


def test_a_document_keeps_its_form_whatever_stands_in_it() -> None:
    blocks = [
        Heading(1, FORGING),
        Paragraph(FORGING),
        Bullets((FORGING, "# forged", "1. forged", "- forged", "= forged", "a & b &lt; ~~c~~")),
        Table(titles=("A", FORGING), rows=((FORGING, "1"), ("x | y", "`2`"))),
    ]
    text, markdown = as_text(blocks), as_markdown(blocks)
    assert all(line.isprintable() for line in (*text.splitlines(), *markdown.splitlines()))
    assert not any(
        line.startswith(("# " + FORGED, "| a | b |")) for line in (*text.splitlines(), *markdown.splitlines())
    )
    # The heading, the paragraph, six items and four lines of a table, between three empty lines.
    assert len(markdown.rstrip("\n").splitlines()) == 1 + 1 + 6 + 4 + 3
    assert "- \\# forged" in markdown
    assert "- 1\\. forged" in markdown
    assert "- \\- forged" in markdown
    assert "a & b \\&lt; \\~~c\\~~" in markdown
    assert "x \\| y" in markdown


def test_a_wrapped_line_does_not_look_like_a_heading() -> None:
    text = as_text([Paragraph(f"{'x' * 70} Promoted on all hosts {'=' * 78} {'-' * 60} and so on")])
    assert not any(set(line.strip()) <= {"=", "-"} for line in text.splitlines() if len(line) > 3)
