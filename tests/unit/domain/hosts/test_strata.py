"""A stratum has parts, whatever its labels hold; the rule that follows from one matches its hosts and no others."""

from dataclasses import replace

import pytest

from controller.domain.fleet.decided import Denial, Fleet, evolve_fleet
from controller.domain.fleet.denials import denial_of, subject
from controller.domain.hosts.facts import Subject
from controller.domain.hosts.host import Host
from controller.domain.judging.condemned import condemned
from controller.domain.kernels import Kernel
from controller.domain.planning.policy import policy_of
from controller.domain.planning.selection import HostCandidate, stratum_of
from controller.domain.record.control import StratumHeld
from controller.domain.record.events import PlannedHost, RolloutPlanned
from controller.domain.record.fleet import KernelCleared
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec
from controller.domain.state.rollout import evolve_rollout, planned_rollout

SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: trial}
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
  strata: {labels: [LABELS]}
  waves: [{rest: true, bake: 60s}]
  workloads: {swap_mount: {device: {block_device: /dev/vdb}, repetitions: 3, warmups: 0, timeout: 300s}}
  on_stratum_failure: hold
"""
KERNEL = Kernel(digest="ab" * 32, release="7.1.13", architecture="x86_64", source="simulated")


def host(labels: dict[str, str], platform: str = "vm") -> Host:
    return Host(
        name="h",
        architecture="x86_64",
        platform=platform,
        page_size_bytes=4096,
        memory_bytes=1 << 30,
        cpu_count=1,
        kernel_release="7.0.13",
        kernel_version="#1",
        boot_id="b",
        labels=labels,
    )


def stratum(spec: RolloutSpec, of: Host) -> str:
    return stratum_of(spec, HostCandidate(subject=Subject(host=of, labels=of.labels)))


def rule(spec_labels: list[str], of: Host, *, labels_kept: bool = True) -> Denial:
    """The rule that follows when the stratum of this host is held."""
    text = SPEC.replace("LABELS", ", ".join(f'"{label}"' for label in spec_labels))
    spec = parse_spec(text, "trial")
    name = stratum(spec, of)
    policy = policy_of(spec, (60.0,))
    event = RolloutPlanned(
        at=1.0,
        uid="u",
        name="trial",
        spec_yaml=text,
        salt="s",
        kernels={"x86_64": KERNEL},
        waves=((PlannedHost(host="h", stratum=name, architecture="x86_64"),),),
        bake_s=(60.0,),
        by="olga",
        policy=policy if labels_kept else replace(policy, strata_labels=None),
    )
    rollout = planned_rollout(event)
    held = StratumHeld(at=2.0, stratum=name, reason="it panicked", host="h")
    (denial,) = condemned(evolve_rollout(rollout, held), {}, held)
    return denial


def denied(denial: Denial, of: Host) -> bool:
    return denial_of([denial], KERNEL, subject(of, Fleet())) is not None


HELD = [
    (["zone"], {"zone": "a"}),
    (["group/db"], {"group/db": "true"}),
    (["disk"], {"disk": "/dev/disk/by-id/x"}),
    (["disk", "group/db"], {"disk": "/dev/sda", "group/db": "true"}),
    (["a", "b"], {"a": "1/b=2", "b": "3"}),
    (["a", "b"], {"a": "1", "b": "2/b=3"}),
    (["zone", "group/db"], {"zone": "a=b/c=d", "group/db": "x=y"}),
    (["zone"], {"zone": 'say "hi" \\ there'}),
    (["zone"], {"zone": "two\nlines\tand\x7f"}),
    (["zone"], {"zone": ""}),
    (["zone"], {}),
    (["zone"], {"zone": "?"}),
    (["zone", "group/db", "rack"], {"rack": "?/?"}),
    (["zone"], {"zone": 'x.matches("(") in labels'}),
    (["a", "b", "c", "d", "e"], dict.fromkeys("abcde", "é" * 256)),
    ([], {}),
]


@pytest.mark.parametrize("labels_kept", [True, False])
@pytest.mark.parametrize(("labels", "has"), HELD)
def test_the_rule_of_a_held_stratum_matches_its_hosts(
    labels: list[str], has: dict[str, str], *, labels_kept: bool
) -> None:
    denial = rule(labels, host(has), labels_kept=labels_kept)
    assert denied(denial, host(has))
    assert denied(denial, host({**has, "another": "label"}))


@pytest.mark.parametrize(("labels", "has"), HELD)
def test_the_rule_of_a_held_stratum_matches_no_other_host(labels: list[str], has: dict[str, str]) -> None:
    denial = rule(labels, host(has))
    assert not denied(denial, host(has, platform="metal"))
    for label in labels:
        assert not denied(denial, host({**has, label: "elsewhere"}))


def test_a_platform_with_a_slash_is_no_label() -> None:
    odd = host({"zone": "a"}, platform="vm/nested")
    assert denied(rule(["zone"], odd), odd)
    assert not denied(rule(["zone"], odd), host({"zone": "a"}))


def test_hosts_without_a_label_and_with_a_question_mark_are_of_one_stratum() -> None:
    assert denied(rule(["zone"], host({})), host({"zone": "?"}))
    assert denied(rule(["zone"], host({"zone": "?"})), host({}))


def test_what_was_cleared_as_it_was_written_before_stays_cleared() -> None:
    denial = rule(["zone"], host({}))
    fleet = Fleet().remembering([denial])
    cleared = KernelCleared(
        at=3.0, by="olga", kernel=KERNEL.digest, where='stratum == "x86_64/vm" && !("zone" in labels)'
    )
    assert evolve_fleet(fleet, cleared).denials == ()
