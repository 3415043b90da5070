"""A rollout file is read, or refused with the line and field of everything that is wrong."""

import json
from pathlib import Path

import pytest
from project import ROOT
from spec_texts import BODY, HEAD, refusal

from controller.domain.errors import InvalidInput
from controller.domain.spec.parse import parse_spec, spec_json_schema

EXAMPLES = sorted((ROOT / "deploy" / "examples").glob("rollout-*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    spec = parse_spec(path.read_text(), path.name)
    assert spec.kernels
    assert spec.waves


def test_every_example_is_in_the_documentation() -> None:
    listed = (ROOT / "docs" / "lab.md").read_text()
    assert EXAMPLES
    assert [path.name for path in EXAMPLES if f"(../deploy/examples/{path.name})" not in listed] == []


def test_the_phase3_example_says_what_the_series_claims() -> None:
    path = next(path for path in EXAMPLES if "phase3" in path.name)
    spec = parse_spec(path.read_text(), path.name)
    (claim,) = spec.claims
    assert (claim.metric, claim.saves_at_least, claim.unit) == ("swap_mount.cost", 230.4, "MiB/TiB")
    assert claim.confidence == 0.99
    assert spec.limits.boot_timeout_s == 180
    assert [wave.bake_s for wave in spec.waves] == [5, 5]
    assert spec.expected["arm64"].version == "7.0.13"


def test_defaults() -> None:
    spec = parse_spec(HEAD + BODY, "rollout.yaml")
    assert spec.name == "test"
    assert [(wave.per_stratum, wave.rest) for wave in spec.waves] == [(1, None), (None, True)]
    assert spec.kernels["x86_64"].debian is not None
    assert spec.kernels["x86_64"].debian.flavour == "cloud"
    assert spec.workloads.swap_mount is not None
    assert spec.workloads.swap_mount.device.brd_size == 2**40
    assert (spec.design, spec.on_stratum_failure, spec.salt, spec.claims) == ("before_after", "revert", None, ())


WRONG = [
    ("waves: [per_stratum: 0]", "spec.waves[0].per_stratum: must be at least 1 (got 0)"),
    ("waves: []", "spec.waves: must have at least 1 entries"),
    ("waves: [rest: true, per_stratum: 1]", "spec.waves[0]: takes the rest, so it must be the last wave"),
    (
        "waves: [percent: 5, percent: 5]",
        "spec.waves[1].percent: counts the earlier waves too, so it must be more than 5",
    ),
    ("waves: [{}]", "spec.waves[0]: needs one of per_stratum, percent or rest"),
    (
        "waves: [{rest: true, percent: 5}]",
        "spec.waves[0]: takes only one of per_stratum, percent or rest (got percent and rest)",
    ),
    ("waves: [rest: yes]", "spec.waves[0].rest: must be true (got 'yes')"),
    (
        "waves: [{rest: true, bake: 30}]",
        'spec.waves[0].bake: must be a duration with its unit, for example "30s", "10m" or "24h" (got 30)',
    ),
    ("waves: [{rest: true, bake: 99999d}]", "spec.waves[0].bake: must be at most \"90d\" (got '99999d')"),
    ("limits: {boot_timout: 30s}", "spec.limits.boot_timout: is not a known field; did you mean boot_timeout?"),
    ("limits: {watchdog: maybe}", "spec.limits.watchdog: must be required or wanted or ignored (got 'maybe')"),
    ("limits: {boot_timeout: 0s}", "spec.limits.boot_timeout: must be more than 0 (got 0.0)"),
    ("limits: {infrastructure_retries: 4}", "spec.limits.infrastructure_retries: must be at most 3 (got 4)"),
    ("limits:", "spec.limits: must be a mapping (got nothing)"),
    ("controls: {hosts: 1}", "spec.controls.hosts: is not a known field; known here: per_stratum"),
    (
        "selector: {match: {rack: 3}}",
        "spec.selector.match.rack: must be text or a list of texts; write numbers in quotes (got 3)",
    ),
    ("selector: {hosts: [a, b c]}", "spec.selector.hosts[1]: must be a host name (got 'b c')"),
    (
        "design: before-after",
        "spec.design: must be before_after or two_arms or matched_pairs or abba (got 'before-after'); did you mean "
        "before_after?",
    ),
    ("controls: {per_stratum: 3}", "spec.controls: goes with design: two_arms (the design is before_after)"),
    ("pairs: {per_stratum: 3}", "spec.pairs: goes with design: matched_pairs (the design is before_after)"),
    ("abba: {cycles: 3}", "spec.abba: goes with design: abba (the design is before_after)"),
    ("abba: {cycles: 0}", "spec.abba.cycles: must be at least 1 (got 0)"),
    (
        "pairs: {per_stratum: some}",
        "spec.pairs.per_stratum: must be a whole number from 1 to 100000, or power: as many as the margins take "
        "(got 'some')",
    ),
    ("verdict_by_wave: 1", "spec.verdict_by_wave: needs a design that decides: two_arms, matched_pairs or abba"),
    ("from: {x86_64: {}}", "spec.from.x86_64: needs one of release or version"),
    (
        "claim: [{metric: swap_mount.cost, saves_at_least: 1e400, unit: MiB/TiB}]",
        "spec.claim[0].saves_at_least: must be a finite number (got inf)",
    ),
    (
        "claim: [{metric: swap_mount.cost, saves_at_least: 10, unit: MB}]",
        "spec.claim[0].unit: must be MiB/TiB for swap_mount.cost (got 'MB')",
    ),
    (
        "claim: [{metric: build.time, saves_at_least: 10, unit: s}]",
        "spec.claim[0].metric: cannot carry a claim; choose swap_mount.cost or swap_mount.memfree_cost"
        " (got 'build.time')",
    ),
]


@pytest.mark.parametrize(("extra", "message"), WRONG)
def test_one_wrong_field(extra: str, message: str) -> None:
    assert refusal(f"{HEAD}{BODY}  {extra}\n") == [f"rollout.yaml:10: {message}"]


def test_a_claim_twice_is_refused() -> None:
    claim = "    - {metric: swap_mount.cost, saves_at_least: 10, unit: MiB/TiB}\n"
    assert refusal(HEAD + BODY + "  claim:\n" + claim + claim) == [
        "rollout.yaml:12: spec.claim[1].metric: claims swap_mount.cost a second time"
    ]


def test_all_problems_are_told_in_the_order_of_the_lines() -> None:
    text = (
        HEAD.replace("kernroll/v1", "kernroll/v2").replace("name: test", "name: Not_One")
        + "spec:\n  kernels:\n    mips: {directory: /k}\n    x86_64: {debian: {version: 7.1}, directory: k}\n"
        + "  workloads:\n    swap_mount: {device: {brd_size: 1TB}, repetitions: 2, repetitions: 3}\n  wave: 1\n"
    )
    assert refusal(text) == [
        "rollout.yaml:1: apiVersion: must be kernroll/v1 (got 'kernroll/v2'); did you mean kernroll/v1?",
        "rollout.yaml:4: metadata.name: must be 1 to 63 lower-case letters, digits and inner dashes (got 'Not_One')",
        "rollout.yaml:7: spec.kernels.mips: must be x86_64 or arm64 (got 'mips')",
        "rollout.yaml:8: spec.kernels.x86_64.debian.version: must be text; write it in quotes (got 7.1)",
        "rollout.yaml:8: spec.kernels.x86_64.directory: must be an absolute path on the controller's machine (got 'k')",
        "rollout.yaml:10: spec.workloads.swap_mount.device.brd_size: must be a size with a binary unit, "
        'for example "64GiB" or "1TiB" (got \'1TB\')',
        "rollout.yaml:10: spec.workloads.swap_mount.repetitions: is written twice (first in line 10)",
        "rollout.yaml:11: spec.wave: is not a known field; did you mean waves?",
    ]


def test_missing_fields_name_the_line_they_are_missing_from() -> None:
    assert refusal("kind: Rollout\nspec:\n  waves: []\n") == [
        "rollout.yaml:1: apiVersion: is missing",
        "rollout.yaml:1: metadata: is missing",
        "rollout.yaml:2: spec.kernels: is missing",
        "rollout.yaml:2: spec.workloads: is missing",
        "rollout.yaml:3: spec.waves: must have at least 1 entries",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "rollout.yaml:1: is not a rollout: it must start with apiVersion"),
        ("- a\n- b\n", "rollout.yaml:1: is not a rollout: it must start with apiVersion"),
        ("a: [1, 2\nb: 3\n", "rollout.yaml:2: is not valid YAML"),
        ("a: 'x\n", "is not valid YAML"),
        ("a: \tb\n\t- c\n", "is not valid YAML"),
        ("a: &x [1]\nb: *x\n", "rollout.yaml:1: uses an anchor (&name); write the value out where it is needed"),
        ("b: *x\n", "rollout.yaml:1: uses an alias (*name); write the value out"),
        ("a: !!python/object:os.system x\n", "rollout.yaml:1: uses a tag (!name); write a plain value"),
        ("a: 1\n---\na: 2\n", "rollout.yaml:2: holds more than one document; write one rollout per file"),
        ("? [a, b]\n: 1\n", "rollout.yaml:1: uses a list or mapping as a key; write a word"),
        ("[" * 5000, "rollout.yaml:1: is nested too deep, at most 16 levels are read"),
        ("a: \x07\n", "rollout.yaml:1: is not readable as YAML"),
        ("\x7fELF\x00\x00", "rollout.yaml:1: is not a text file: it contains NUL characters"),
        ("x" * 300_000, "rollout.yaml:1: is too big: 300000 characters, at most 262144 are read"),
        ("[" + "1," * 60_000 + "]", "rollout.yaml:1: holds too many values, at most 50000 are read"),
    ],
)  # fmt: skip
def test_what_is_no_readable_document(text: str, message: str) -> None:
    lines = refusal(text)
    assert len(lines) == 1
    assert message in lines[0]


def test_the_schema_is_json_and_knows_the_fields() -> None:
    schema = spec_json_schema()
    json.dumps(schema)
    assert schema["title"] == "kernroll Rollout"
    assert "boot_timeout" in schema["$defs"]["Limits"]["properties"]
    assert schema["$defs"]["Limits"]["properties"]["stage_timeout"]["type"] == "string"
    assert "additionalProperties" in schema and schema["additionalProperties"] is False


def test_a_key_cannot_break_the_message_into_lines() -> None:
    assert refusal(f"{HEAD}{BODY}\u202e\u200b: 1\n") == [
        "rollout.yaml:10: ??: is not a known field; known here: apiVersion, kind, metadata, spec"
    ]


def test_a_distribution_s_name_of_an_architecture_is_understood() -> None:
    text = (
        "apiVersion: kernroll/v1\nkind: Rollout\nmetadata: {name: a}\nspec:\n"
        '  kernels:\n    amd64: {debian: {version: "7.1.13"}}\n'
        "  workloads:\n    swap_mount: {device: {block_device: /dev/x}}\n"
    )
    with pytest.raises(InvalidInput, match="did you mean x86_64"):
        parse_spec(text, "rollout.yaml")
