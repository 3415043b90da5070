"""Who is not let in stands in the log, once a minute and not without end."""

from structlog.testing import capture_logs

from controller.adapters.rpc.identity import Refusals


def test_the_same_refusal_is_logged_once_a_minute() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    with capture_logs() as logs:
        for _ in range(3):
            refusals.note("a", "the join token is used up")
        refusals.note("a", "another reason")
        refusals.note("b", "the join token is used up")
        now = 61.0
        refusals.note("a", "the join token is used up")
    assert [(one["host"], one["why"]) for one in logs] == [
        ("a", "the join token is used up"),
        ("a", "another reason"),
        ("b", "the join token is used up"),
        ("a", "the join token is used up"),
    ]
    assert {(one["event"], one["log_level"]) for one in logs} == {("refused", "warning")}


def test_who_knocks_under_ever_other_names_fills_no_log() -> None:
    refusals = Refusals(lambda: 0.0)
    with capture_logs() as logs:
        for number in range(5000):
            refusals.note(f"host-{number}", "no")
    assert len(logs) == 100
