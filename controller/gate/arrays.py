"""The gate for programs: whole trials, and thousands of cells a call as arrays. These names stay; the rooms may change.

Effects are in log units, + is worse, NaN is missing; docs/gate.md has an example that runs as a test.
"""

from controller.gate.planning.description import describe_plan
from controller.gate.planning.power import plan_cell
from controller.gate.statistics.cells import Design, judge_cells
from controller.gate.statistics.contrasts import host_change, log_margin, paired_contrasts
from controller.gate.trial.judge import judge_trial
from controller.gate.verdict import Verdict

__all__ = [
    "Design",
    "Verdict",
    "describe_plan",
    "host_change",
    "judge_cells",
    "judge_trial",
    "log_margin",
    "paired_contrasts",
    "plan_cell",
]
