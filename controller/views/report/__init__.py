"""The fleet-level before/after report, rebuilt from the event log; the same log gives the same bytes.

`rebuild` finds the facts, `model` holds them, `contents` puts them in order (`letter` as a cover letter does), `blocks`
renders text and Markdown.
"""

import json
from collections.abc import Mapping, Sequence

from controller.domain.hosts.host import Host
from controller.domain.record.events import Event
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.views.json import view_data
from controller.views.models import ReportView
from controller.views.report.blocks import as_markdown, as_text
from controller.views.report.contents import contents
from controller.views.report.letter import letter
from controller.views.report.model import Report
from controller.views.report.rebuild import rebuild

__all__ = ["Report", "rebuild", "report"]


def report(
    rollout: Rollout,
    attempts: Mapping[str, Attempt],
    events: Sequence[tuple[str, Event]],
    hosts: Mapping[str, Host],
    *,
    beside: Sequence[Report] = (),
) -> ReportView:
    """Return the report in its four forms; the cover letter has the tests of those `beside` it, too.

    `events` are (stream, event) in the order of the log; `attempts` are what the log folds to; `hosts` are the facts
    known of the hosts. A host that is not in `hosts` any more is told without its machine.
    """
    made = rebuild(rollout, attempts, events, hosts)
    blocks = tuple(contents(made))
    document = json.dumps(view_data(made), indent=2, ensure_ascii=False, allow_nan=False)
    return ReportView(
        text=as_text(blocks),
        markdown=as_markdown(blocks),
        json=f"{document}\n",
        letter=as_text(letter((made, *beside))),
    )
