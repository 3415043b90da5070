"""What a design needs of the other fields of a rollout file, told with the line of the field."""

import pytest

from controller.domain.errors import InvalidInput
from controller.domain.spec.parse import parse_spec

SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {{name: test}}
spec:
  kernels: {{x86_64: {{debian: {{version: "7.1.13"}}}}}}
  workloads:
    {workloads}
  limits: {{max_in_flight: {slots}}}
  {extra}
"""
BUILD = "kernel_build: {preset: small}"
FEW = "kernel_build: {preset: small, repetitions: 3}"
INTEGRITY = "swap_integrity: {preset: small}"


def text(extra: str, workloads: str = BUILD, slots: int = 4) -> str:
    return SPEC.format(extra=extra, workloads=workloads, slots=slots)


@pytest.mark.parametrize(
    ("extra", "workloads", "slots", "message"),
    [
        (
            "design: two_arms",
            INTEGRITY,
            4,
            "9: spec.design: compares performance, and no workload here has a metric for it; add one, for example "
            "kernel_build",
        ),
        (
            "design: matched_pairs",
            FEW,
            4,
            "7: spec.workloads.kernel_build.repetitions: must be at least 4 with design: matched_pairs, which needs 4 "
            "runs a kernel (got 3)",
        ),
        (
            "design: two_arms",
            BUILD,
            1,
            "8: spec.limits.max_in_flight: must be at least 2 with design: two_arms: a control host reboots beside the "
            "host it is compared with (got 1)",
        ),
        ("{design: abba}", BUILD, 4, ""),
    ],
)
def test_what_a_design_lacks_is_told_with_its_line(extra: str, workloads: str, slots: int, message: str) -> None:
    if not message:
        extra = extra.strip("{}")
        assert parse_spec(text(extra, FEW.replace("3", "2"), 1), "rollout.yaml").design == "abba"
        return
    with pytest.raises(InvalidInput) as refused:
        parse_spec(text(extra, workloads, slots), "rollout.yaml")
    assert str(refused.value) == f"rollout.yaml:{message}"


def test_a_verdict_is_asked_for_by_a_wave_that_there_is() -> None:
    with pytest.raises(
        InvalidInput, match=r"rollout.yaml:10: spec.verdict_by_wave: must be one of the 2 waves \(got 3\)"
    ):
        parse_spec(text("design: abba\n  verdict_by_wave: 3"), "rollout.yaml")


def test_what_is_left_out_is_as_many_as_the_margins_take() -> None:
    spec = parse_spec(text("design: matched_pairs"), "rollout.yaml")
    assert (spec.pairs.per_stratum, spec.verdict_by_wave) == ("power", None)
    chosen = parse_spec(text("design: abba\n  abba: {per_stratum: 2, cycles: 3}\n  verdict_by_wave: 1"), "rollout.yaml")
    assert (chosen.abba.per_stratum, chosen.abba.cycles, chosen.verdict_by_wave) == (2, 3, 1)
