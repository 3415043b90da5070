"""What `plan` prints before anything reboots."""

from dataclasses import replace

from controller.gate.planning.description import describe_plan, needed
from controller.gate.planning.power import plan_cell
from controller.gate.statistics.cells import Design
from controller.gate.statistics.contrasts import log_margin

MARGIN = log_margin(0.03)


def test_a_plan_says_how_many_when_and_with_what_errors() -> None:
    plan = plan_cell(Design.PAIRS, margin=MARGIN, sigma=MARGIN)
    assert describe_plan("kernel_build.system_time", plan) == (
        "kernel_build.system_time: 20 host pairs, margin 3 %, noise 3 % each.",
        "Looks at 9, 12, 15, 17 and 20; the first that can FAIL is one at 9 host pairs.",
        "It reverts a kernel that is no worse than 0.742 % in at most 1 % of all cases, and promotes one that is "
        "worse by 3 % or more in at most 5 %.",
    )
    assert needed(plan) == 20


def test_a_short_budget_says_what_it_can_see() -> None:
    plan = plan_cell(Design.TWO_ARMS, margin=MARGIN, sigma=MARGIN, budget=10)
    told = describe_plan("m", plan)
    assert told[0].startswith("m: 10 treated hosts and 10 control hosts")
    assert told[1] == "39 would be needed for this margin; with 10 the smallest margin that can be decided is 5.94 %."
    small = replace(plan_cell(Design.PAIRS, margin=MARGIN, sigma=MARGIN, budget=4))
    assert "no look can FAIL" in " ".join(describe_plan("m", small))


def test_low_noise_and_no_design_are_told() -> None:
    quiet = plan_cell(Design.PAIRS, margin=MARGIN, sigma=0.004, budget=5)
    assert "t confidence sequence" in " ".join(describe_plan("m", quiet))
    before = replace(quiet, design=Design.BEFORE_AFTER)
    assert "confounded with time" in describe_plan("m", before)[0]
