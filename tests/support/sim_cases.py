"""Small simulated cases over the example specs."""

from pathlib import Path

from controller.domain.spec.parse import parse_spec
from controller.sim.case import Case
from controller.sim.faults.parse import Faults, parse_faults
from controller.sim.operators import VERBS

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
HEAD = "apiVersion: kernroll/v1\nkind: Faults\nmetadata: {name: trial}\nspec:\n"


def case(faults: str = "", *, hosts: int = 6, seed: str = "1", then: str = "", more: str = "") -> Case:
    """Return the first users' rollout on a small fleet; `faults` and `more` stand under `spec` of their files."""
    text = (EXAMPLES / "rollout-swap-table-phase3.yaml").read_text() + more
    given = parse_faults(HEAD + faults, "faults.yaml", VERBS) if faults else Faults()
    spec = parse_spec(text, "rollout.yaml")
    return Case(seed=seed, hosts=hosts, spec_yaml=text, file_name="rollout.yaml", spec=spec, faults=given, then=then)
