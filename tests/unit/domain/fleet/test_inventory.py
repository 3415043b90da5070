"""Ansible's hosts as labels, and what an import of them changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.imports.ansible_inventory import read_inventory
from controller.domain.errors import InvalidInput
from controller.domain.fleet.decided import Fleet, evolve_fleet
from controller.domain.fleet.inventory import HostChange, changes, inventory_labels
from controller.domain.record.fleet import InventoryImported

TIMEOUT_S = 120.0


def listing(hostvars: dict[str, Any], **groups: Any) -> dict[str, Any]:
    return {"_meta": {"hostvars": hostvars}, "all": {"children": ["ungrouped", *groups]}, **groups}


def test_places_labels_and_groups() -> None:
    found = inventory_labels(
        listing(
            {
                "arm-1": {
                    "zone": "a",
                    "kernroll_zone": "b",
                    "rack": 12,
                    "kernroll_labels": {"ssd": True, "tier": "x"},
                },
                "guest": {"hypervisor": "arm-1", "cluster": None, "ansible_host": "192.0.2.1"},
                "alias": {"kernroll_host": "x86-a.example.org"},
            },
            site={"children": ["arm"]},
            arm={"hosts": ["arm-1"]},
            odd_={"hosts": ["arm-1"]},
        ),
        "hosts.yaml",
    ).hosts
    assert found == {
        "arm-1": {"zone": "b", "rack": "12", "ssd": "true", "tier": "x", "group/arm": "true", "group/site": "true"},
        "guest": {"hypervisor": "arm-1"},
        "x86-a.example.org": {},
    }


def test_groups_that_contain_each_other_end() -> None:
    found = inventory_labels(listing({}, a={"children": ["b"], "hosts": ["h"]}, b={"children": ["a"]}), "x").hosts
    assert found == {"h": {"group/a": "true", "group/b": "true"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "hosts.yaml: is not what `ansible-inventory --list` prints: it has no _meta.hostvars"),
        (listing({"a": {"zone": ["x"]}}), "hosts.yaml: host a: zone: must be one value, not a list or mapping"),
        (listing({"a": {"kernroll_labels": "x"}}), "hosts.yaml: host a: kernroll_labels: must be a mapping"),
        (listing({"a": {"kernroll_labels": {"x": {}}}}), "hosts.yaml: host a: kernroll_labels.x: must be one value"),
        (listing({"a": {"kernroll_labels": {"-x": 1}}}), "hosts.yaml: host a: label '-x': a name has letters"),
        (listing({"a": {"zone": "x\ny"}}), "hosts.yaml: host a: label zone: a value is one line"),
        (listing({"a": {"kernroll_host": "b"}, "b": {}}), "hosts.yaml: host b: b is named twice"),
        (listing({}, web=5), "hosts.yaml: group web must be a mapping with hosts and children"),
    ],
)
def test_what_is_no_label_is_refused_with_its_host(content: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        inventory_labels(content, "hosts.yaml")
    assert str(caught.value).startswith(said)


def test_changes_against_what_the_inventory_said_before() -> None:
    fleet = Fleet()
    first = {"a": {"zone": "x", "rack": "1"}, "b": {"zone": "x"}, "c": {}}
    assert [one.what for one in changes(fleet, "site", first)] == ["added"] * 3
    fleet = evolve_fleet(fleet, InventoryImported(at=1.0, by="olga", inventory="site", hosts=first))
    assert changes(fleet, "site", first) == ()
    assert changes(fleet, "site", {"a": {"zone": "y"}, "b": {"zone": "x"}, "d": {"zone": "z"}}) == (
        HostChange(host="a", what="changed", labels={"zone": "y"}, removed=("rack",)),
        HostChange(host="c", what="removed", labels={}, removed=()),
        HostChange(host="d", what="added", labels={"zone": "z"}, removed=()),
    )
    with pytest.raises(InvalidInput, match="elsewhere: b is in the inventory site already"):
        changes(fleet, "elsewhere", {"b": {}})


INI = """\
[web]
x86-a rack=r1
x86-b kernroll_rack=r2

[web:vars]
zone=a

[guests]
guest-[1:2] hypervisor=x86-a
"""
YAML = """\
all:
  children:
    web:
      hosts:
        x86-a: {rack: r1}
        x86-b: {kernroll_rack: r2}
    guests:
      hosts:
        guest-[1:2]: {hypervisor: x86-a}
"""
READ = {
    "guest-1": {"hypervisor": "x86-a", "group/guests": "true"},
    "guest-2": {"hypervisor": "x86-a", "group/guests": "true"},
    "x86-a": {"rack": "r1", "zone": "a", "group/web": "true"},
    "x86-b": {"rack": "r2", "zone": "a", "group/web": "true"},
}


@pytest.mark.parametrize(("name", "text"), [("hosts.ini", INI), ("hosts.yaml", YAML)])
def test_ansible_reads_ini_yaml_and_variables_of_groups(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    if name == "hosts.yaml":
        (tmp_path / "group_vars").mkdir()
        (tmp_path / "group_vars/web.yaml").write_text("zone: a\n")
    read = read_inventory(path, timeout_s=TIMEOUT_S)
    assert (inventory_labels(read.content, name).hosts, read.warnings) == (READ, ())
    # What it printed can be read as well, where there is no Ansible.
    printed = tmp_path / "inventory.json"
    printed.write_text(json.dumps(read.content))
    assert inventory_labels(read_inventory(printed, timeout_s=TIMEOUT_S).content, name).hosts == READ


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bad.ini", '[web]\nx86-a rack="r1\n', "bad.ini: Error parsing host definition 'x86-a rack=\"r1'"),
        ("bad.yaml", "all:\n  hosts: [a\n", "bad.yaml: YAML parsing failed"),
        ("bad.json", "{", "bad.json: is not JSON: "),
        ("list.json", "[]", "list.json: is not what `ansible-inventory --list` prints"),
    ],
)
def test_a_file_that_is_no_inventory_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_inventory(tmp_path / name, timeout_s=TIMEOUT_S)
    assert said in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match="no such file or directory"):
        read_inventory(Path("/nonexistent/hosts.ini"), timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo boom >&2; exit 3",
            "gives no inventory: Inventory script returned non-zero exit code 3; it said: boom",
        ),
        ("true", "gives no inventory: "),
        ("echo hello", "gives no inventory: "),
    ],
)
def test_a_program_that_gives_no_inventory_is_refused_in_its_own_words(tmp_path: Path, script: str, said: str) -> None:
    program = tmp_path / "cloud"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(InvalidInput, match=rf"^{program}: its program {said}") as caught:
        read_inventory(program, timeout_s=TIMEOUT_S)
    assert "key=value" not in str(caught.value)


def test_a_program_that_prints_an_inventory_is_run_and_its_templates_are_filled_in(tmp_path: Path) -> None:
    program = tmp_path / "cloud"
    listed = json.dumps({"_meta": {"hostvars": {"m-1": {"row": "b", "zone": "{{ row }}"}}}, "web": {"hosts": ["m-1"]}})
    program.write_text(f"#!/bin/sh\necho '{listed}'\n")
    program.chmod(0o755)
    read = read_inventory(program, timeout_s=TIMEOUT_S)
    assert inventory_labels(read.content, "cloud").hosts == {"m-1": {"group/web": "true", "zone": "b"}}


@pytest.mark.parametrize("name", ["hosts.yaml", "hosts"])
@pytest.mark.parametrize("groups", [{}, {"all": {"children": ["web"]}, "web": {"hosts": ["m-1"]}}])
def test_a_listing_under_another_name_is_refused_with_what_to_do(
    tmp_path: Path, name: str, groups: dict[str, Any]
) -> None:
    (tmp_path / name).write_text(json.dumps({"_meta": {"hostvars": {"m-1": {"zone": "a"}}}, **groups}))
    with pytest.raises(InvalidInput, match=r"holds _meta, .* give it a name that ends in \.json"):
        read_inventory(tmp_path / name, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "hosts.yaml",
            "all:\n hosts:\n  m-1: {zone: no, rack: 1.10, hypervisor: 010, cluster: a}\n"
            " vars: {kernroll_labels: {x: 12:30, y: 't'}}\n",
            [
                "hypervisor of m-1 is a number to Ansible, taken as 8: quote",
                "kernroll_labels.x of m-1 is a number to Ansible, taken as 750: quote",
                "rack of m-1 is a number to Ansible, taken as 1.1: quote it to keep it as written",
                "zone of m-1 is a boolean to Ansible, taken as false: quote it to keep it as written",
            ],
        ),
        (
            "hosts.ini",
            "m-1 zone=1e3\nm-2 zone=a rack=b\n",
            ["zone of m-1 is a number to Ansible, taken as 1000.0: quote"],
        ),
        ("hosts.yaml", "all: {vars: {slot: 7}, hosts: {m-1: {zone: 'no', rack: '1.10', cluster: '{{ slot }}'}}}", []),
        # What no label is made of is nobody's business, also where another variable goes first.
        ("hosts.yaml", "all: {hosts: {m-1: {zone: 1.10, kernroll_zone: '1.10', ansible_port: 22}}}", []),
    ],
)
def test_what_is_no_text_to_ansible_is_told_for_each_variable(
    tmp_path: Path, name: str, text: str, told: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    remarks = inventory_labels(read_inventory(tmp_path / name, timeout_s=TIMEOUT_S).content, name).remarks
    assert [remark.startswith(f"{name}: {words}") for remark, words in zip(remarks, told, strict=True)] == [True] * len(
        told
    )


def test_nothing_at_all_does_not_take_the_place_of_what_is_known() -> None:
    assert changes(Fleet(), "site", {}) == ()
    known = InventoryImported(at=1.0, by="olga", inventory="site", hosts={"a": {"zone": "x"}})
    with pytest.raises(InvalidInput, match=r"site: names no hosts, .* import a file in which its hosts have none"):
        changes(evolve_fleet(Fleet(), known), "site", {})


def test_a_comment_of_a_template_is_one() -> None:
    found = inventory_labels(listing({"a": {"zone": "x{# upper floor #}"}, "b": {}}), "a.json")
    assert "zone: must be one value, not a template" in found.refused["a"]
