"""How cases are made: from an operator's files, or drawn from a seed; another process can make the same ones."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec
from controller.sim.case import Case
from controller.sim.drawn import drawn_case
from controller.sim.faults.parse import Faults


def drawn(
    seed: str, *, hosts: int, without: Sequence[str] = (), calm_after: int | None = None, then: str | None = None
) -> Case:
    """Return the world of a seed, less some faults; `then` None leaves it to the seed."""
    case = drawn_case(int(seed), hosts)
    return replace(
        case,
        faults=case.faults.without(without),
        calm_after=calm_after,
        then=case.then if then is None else then,
    )


def prepared(
    spec_yaml: str, file_name: str, *, hosts: int, faults: Faults, calm_after: int | None = None, then: str = ""
) -> "partial[Case]":
    """Return what makes the case of a seed from an operator's files; raises InvalidInput for a bad spec."""
    return partial(
        _of_files,
        spec_yaml=spec_yaml,
        file_name=file_name,
        spec=parse_spec(spec_yaml, file_name),
        hosts=hosts,
        faults=faults,
        calm_after=calm_after,
        then=then,
    )


def _of_files(
    seed: str,
    *,
    spec_yaml: str,
    file_name: str,
    spec: RolloutSpec,
    hosts: int,
    faults: Faults,
    calm_after: int | None,
    then: str,
) -> Case:
    return Case(
        seed=seed,
        hosts=hosts,
        spec_yaml=spec_yaml,
        file_name=file_name,
        spec=spec,
        faults=faults,
        then=then,
        calm_after=calm_after,
    )
