"""Inventories as people keep them, with templates, vaults and odd names: nothing is dropped without a word."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.imports.ansible_inventory import read_inventory
from controller.domain.errors import InvalidInput
from controller.domain.fleet.inventory import InventoryLabels, inventory_labels

TIMEOUT_S = 120.0
HOSTS = """\
all:
  vars: {site: fra1}
  children:
    row_a: {vars: {row: a}, hosts: {m-1: {slot: 3}, m-2: {slot: 9}}}
    row_b: {vars: {row: b}, hosts: {m-3: {slot: 1}}}
"""
VAULT = """!vault |
        $ANSIBLE_VAULT;1.1;AES256
        35633431306531613631343062326136343532663966383439613330656536623737636639643662
        3034323562373430366230313366353164333564346566620a303266663564383432663963376337
        6535
"""


def listing(hostvars: Any, **groups: Any) -> dict[str, Any]:
    return {"_meta": {"hostvars": hostvars}, **groups}


def read(path: Path) -> InventoryLabels:
    return inventory_labels(read_inventory(path, timeout_s=TIMEOUT_S).content, path.name)


def site(folder: Path, variables: str) -> Path:
    (folder / "site/group_vars").mkdir(parents=True)
    (folder / "site/hosts.yaml").write_text(HOSTS)
    (folder / "site/group_vars/all.yml").write_text(variables)
    return folder / "site"


def test_ansible_fills_in_the_templates_of_labels(tmp_path: Path) -> None:
    found = read(
        site(
            tmp_path,
            'zone: "{{ site }}-{{ row }}"\n'
            "rack: \"{{ row }}{{ '%02d' | format(slot) }}\"\n"
            'kernroll_cluster: "{% if slot > 5 %}upper{% else %}lower{% endif %}"\n'
            "kernroll_labels: {slot: '{{ slot }}', name: '{{ inventory_hostname | upper }}', tier: db}\n"
            "kernroll_host: '{{ inventory_hostname }}.{{ site }}'\n",
        )
    )
    assert found.hosts["m-2.fra1"] == {
        "cluster": "upper",
        "group/row_a": "true",
        "name": "M-2",
        "rack": "a09",
        "slot": "9",
        "tier": "db",
        "zone": "fra1-a",
    }
    assert [(host, labels["zone"]) for host, labels in found.hosts.items()] == [
        ("m-1.fra1", "fra1-a"),
        ("m-2.fra1", "fra1-a"),
        ("m-3.fra1", "fra1-b"),
    ]
    assert (found.refused, found.remarks) == ({}, ())


def test_a_template_that_cannot_be_filled_in_refuses_its_hosts_by_name_and_no_others(tmp_path: Path) -> None:
    found = read(site(tmp_path, "zone: \"{{ site if row == 'b' else nowhere }}\"\n"))
    assert found.hosts == {"m-3": {"group/row_b": "true", "zone": "fra1"}}
    assert list(found.refused) == ["m-1", "m-2"] == list(found.kept)
    assert found.refused["m-1"].startswith("site: host m-1: zone: must be one value, not a template (")
    assert found.refused["m-1"].endswith("; set kernroll_zone to plain text beside it")


def test_templates_of_other_variables_are_nobodys_business(tmp_path: Path) -> None:
    found = read(site(tmp_path, 'motd: "{{ nowhere }}"\n'))
    assert (len(found.hosts), found.refused) == (3, {})


@pytest.mark.parametrize("name", ["zone", "kernroll_rack", "kernroll_host", "kernroll_labels"])
def test_a_template_in_a_printed_inventory_is_never_taken_for_a_value(name: str) -> None:
    value = {"x": "{{ y }}"} if name == "kernroll_labels" else "{{ y }}"
    found = inventory_labels(listing({"m-1": {name: value}, "m-2": {"zone": "b"}}), "a.json")
    assert found.hosts == {"m-2": {"zone": "b"}}
    assert found.refused["m-1"].startswith(f"a.json: host m-1: {name}")
    assert "not a template" in found.refused["m-1"]
    assert "cannot be filled in from this file alone" in found.refused["m-1"]


def test_what_is_encrypted_is_refused_where_it_is_needed_and_only_there(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        f"all:\n  hosts:\n    m-1:\n      zone: {VAULT}    m-2:\n      zone: b\n      password: {VAULT}"
    )
    found = read(tmp_path / "a.yaml")
    assert found.hosts == {"m-2": {"zone": "b"}}
    assert found.refused == {
        "m-1": "a.yaml: host m-1: zone: must be one value, not a value encrypted with Ansible Vault; "
        "set kernroll_zone to plain text beside it"
    }


@pytest.mark.parametrize(
    ("value", "label"),
    [({"__ansible_unsafe": "a"}, "a"), ({"__ansible_unsafe": "r{{1}}"}, "r{{1}}"), ("r{1}", "r{1}"), (1.5, "1.5")],
)
def test_text_that_is_marked_as_no_template_is_text(value: Any, label: str) -> None:
    content = listing({"m-1": {"zone": value, "kernroll_labels": {"x": value}}})
    assert inventory_labels(content, "a.json").hosts == {"m-1": {"x": label, "zone": label}}


def test_unsafe_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('all: {hosts: {m-1: {zone: !unsafe "a", rack: !unsafe "r{{1}}"}}}')
    assert read(tmp_path / "a.yaml").hosts == {"m-1": {"rack": "r{{1}}", "zone": "a"}}


def test_variables_that_stand_with_groups_are_handed_down_as_ansible_does() -> None:
    content = listing(
        {"m-1": {}, "m-2": {"rack": "own"}, "m-3": None},
        all={"children": ["ungrouped", "row_a", "region"], "vars": {"zone": "all", "cluster": "c"}},
        region={"children": ["row_a"], "vars": {"zone": "region", "rack": "region"}},
        row_a={"hosts": ["m-1", "m-2"], "vars": {"zone": "a", "rack": "r1"}},
        # Of two groups that are equally near the later name goes first, unless one is said to.
        b={"hosts": ["m-3"], "vars": {"zone": "b", "rack": "b", "ansible_group_priority": 10}},
        c={"hosts": ["m-3"], "vars": {"zone": "c"}},
    )
    found = inventory_labels(content, "a.json").hosts
    places = {host: [labels.get(key) for key in ("cluster", "zone", "rack")] for host, labels in found.items()}
    assert places == {"m-1": ["c", "a", "r1"], "m-2": ["c", "a", "own"], "m-3": ["c", "b", "b"]}


def test_what_export_prints_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HOSTS.replace("{site: fra1}", "{zone: z}").replace("row: a", "rack: r"))
    plain = read(tmp_path / "a.yaml").hosts
    program = Path(sys.executable).parent / "ansible-inventory"
    done = subprocess.run(
        [program, "-i", tmp_path / "a.yaml", "--list", "--export"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    (tmp_path / "a.json").write_bytes(done.stdout)
    assert "vars" in json.loads((tmp_path / "a.json").read_text())["all"]
    assert read(tmp_path / "a.json").hosts == plain


def test_a_group_whose_name_can_be_no_label_is_told_with_its_hosts() -> None:
    content = listing(
        {"m-1": {"zone": "a"}, "m-2": {"zone": "b"}},
        all={"children": ["ungrouped", "_europe_west2_a", "münchen", "web", "odd_"]},
        _europe_west2_a={"hosts": ["m-1"]},
        münchen={"hosts": ["m-2"]},
        web=["m-2"],
        odd_={"children": ["web"]},
    )
    found = inventory_labels(content, "a.json")
    assert found.hosts == {
        "m-1": {"group/_europe_west2_a": "true", "zone": "a"},
        "m-2": {"group/web": "true", "zone": "b"},
    }
    assert [remark.split(" without")[0] for remark in found.remarks] == [
        "a.json: group münchen: m-2 is taken",
        "a.json: group odd_: m-2 is taken",
    ]


LONG = "gke-prod-cluster-1-default-pool-1a2b3c4d-x9z8.europe-west3-a.c.example-project-4711.internal"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({LONG: {"zone": "b"}}, f"a.json: host {LONG}: '{LONG[:80]}' is no host name: 1 to 64 letters"),
        ({"2001:db8::1": {}}, "a.json: host 2001:db8::1: '2001:db8::1' is no host name"),
        ({"host_": None}, "a.json: host host_: 'host_' is no host name"),
        (
            {"bad": {"zone": ["x"]}},
            "a.json: host bad: zone: must be one value, not a list or mapping; set kernroll_zone",
        ),
        ({"bad": {"rack": {"row": 1}}}, "a.json: host bad: rack: must be one value"),
        ({"bad": {"zone": "x\ny"}}, "a.json: host bad: label zone: a value is one line"),
        ({"bad": {"cluster": "x" * 257}}, "a.json: host bad: label cluster: a value is one line"),
        ({"bad": {"kernroll_labels": {"-x": 1}}}, "a.json: host bad: label '-x': a name has letters"),
        (
            {"bad": {"kernroll_labels": {"__ansible_vault": "x"}}},
            "a.json: host bad: kernroll_labels: must be a mapping",
        ),
        ({"bad": 5}, "a.json: host bad: its variables must be a mapping"),
        ({"bad": {"kernroll_host": ["x"]}}, "a.json: host bad: kernroll_host: must be one value"),
    ],
)
def test_one_host_that_cannot_be_read_leaves_the_others_alone(bad: dict[str, Any], said: str) -> None:
    found = inventory_labels(listing({"m-1": {"zone": "a"}, "m-2": None, **bad}), "a.json")
    assert found.hosts == {"m-1": {"zone": "a"}, "m-2": {}}
    (sentence,) = found.refused.values()
    assert sentence.startswith(said)
    assert sentence.isprintable()
    assert list(found.kept) == list(bad)


def test_a_name_that_two_hosts_have_is_nobodys() -> None:
    content = listing({"a": {"kernroll_host": "b"}, "b": {}, "c": {"kernroll_host": "b"}, "d": {}})
    found = inventory_labels(content, "a.json")
    assert found.hosts == {"d": {}}
    assert found.refused["c"] == "a.json: host c: b is named twice, by a too: correct one kernroll_host"
    assert found.kept == ("b",)


def test_a_host_that_is_refused_keeps_the_name_under_which_it_has_enrolled() -> None:
    found = inventory_labels(listing({"alias": {"kernroll_host": "real", "zone": []}, "m": {}}), "a.json")
    assert found.kept == ("real",)


def test_where_no_host_can_be_read_the_file_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"a\.json: host m-1: zone: must be one value"):
        inventory_labels(listing({"m-1": {"zone": []}}), "a.json")
