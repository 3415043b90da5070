"""The documentation's state diagrams are those of the code."""

from project import ROOT

from controller.views.rollouts.diagrams import journey_page

_PAGE = ROOT / "docs" / "journey.md"


def test_the_page_is_what_the_tables_say() -> None:
    assert _PAGE.read_text(encoding="utf-8") == journey_page(), "run `make docs`"
