"""Simulated rollouts that compare hosts: one world for every design."""

from sim_cases import HEAD

from controller.domain.spec.parse import parse_spec
from controller.sim.case import Case
from controller.sim.faults.parse import parse_faults
from controller.sim.operators import VERBS

SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: designed}
spec:
  kernels: {x86_64: {debian: {version: "7.1.13"}}, arm64: {debian: {version: "7.1.13"}}}
  waves: [{per_stratum: 1, bake: 10m}, {per_stratum: 11, bake: 10m}, {rest: true, bake: 10m}]
  DESIGN
  verdict_by_wave: 2
  on_stratum_failure: hold
  workloads: {kernel_build: {preset: small, repetitions: 4, warmups: 0, timeout: 30m}}
  limits: {max_in_flight: 30, baseline_timeout: 1h, probation_timeout: 1h, heartbeat_timeout: 3m}
"""
FLEET = (
    "  fleet:\n"
    "    - {architecture: x86_64, platform: vm, share: 50 %}\n"
    "    - {architecture: arm64, platform: vm, share: 50 %}\n"
)
# What may be wrong in such a world: the kernel, or what surrounds it.
WORSE = "  effects: [{metric: kernel_build_subset.system_time, strata: arm64/vm, change: '+15 %'}]\n"
TROUBLE = "  controller: {crashes: {per_rollout: 3, down_for: 1m}}\n  network: {lost: {share: 0.5 %}}\n"
DESIGNS = [
    ("design: matched_pairs\n  pairs: {per_stratum: 12}", 54),
    ("design: two_arms\n  controls: {per_stratum: 12}", 54),
    ("design: abba\n  abba: {per_stratum: 3, cycles: 4}", 10),
]


def designed_case(design: str, hosts: int, faults: str) -> Case:
    """Return a world of this design with these faults."""
    text = SPEC.replace("DESIGN", design)
    spec = parse_spec(text, "designed.yaml")
    given = parse_faults(HEAD + FLEET + faults, "faults.yaml", VERBS)
    return Case(seed="1", hosts=hosts, spec_yaml=text, file_name="designed.yaml", spec=spec, faults=given, then="")
