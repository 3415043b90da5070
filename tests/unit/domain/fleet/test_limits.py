"""Inventories that stand for more than anybody has: refused with file and line before they fill the memory."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.imports import ansible_inventory
from controller.adapters.imports.ansible_inventory import read_inventory
from controller.adapters.imports.inventory_size import check_size
from controller.domain.errors import InvalidInput
from controller.domain.fleet.inventory import inventory_labels

LAUGHS = "all:\n  vars:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"    a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 9)
)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.ini", "[web]\nh[1:10000000]\n", 2),
        ("a.ini", "ok\n[web]\nh[0001:9999]-[1:1000] zone=a\n", 3),
        ("a.ini", "[web]\nh[1:60000]\n[db]\ng[1:60000]\n", 4),
        ("a.ini", "[web]\nh[a:z][a:z][a:z][a:z]\n", 2),
        ("a.ini", "[web]\nh[1:99999999999999999999]\n", 2),
        ("a", "[web]\nh[1:10000000:2]\n", 2),
        ("a.yaml", "all:\n  hosts:\n    h[1:10000000]:\n", 3),
        ("a.yml", 'all:\n  hosts:\n    "h[1:10000000].site": {zone: a}\n', 3),
        ("a.yaml", LAUGHS, 8),
        ("a.yaml", "all: {vars: {x: &x [*x, *x]}}\n" + LAUGHS, 9),
    ],
)
def test_more_than_anybody_has_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("Ansible is not asked")

    monkeypatch.setattr(ansible_inventory, "Tool", never)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / name).write_text(text)
    for path in (tmp_path / "site", tmp_path / "site" / name):
        with pytest.raises(InvalidInput) as caught:
            read_inventory(path, timeout_s=60)
        assert str(caught.value).startswith(f"{tmp_path / 'site' / name}:{line}: stands for more than ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ini", "[web]\nh[1:50000]\ng[1:50000:2]\n[web:vars]\nslice=[1:10000000]\nx[1:10000000]=y\n"),
        ("a.ini", "[web:children]\nlong[1:10000000]\n"),
        ("a.ini", "h slice=[1:10000000] # [1:10000000]\n# h[1:10000000]\n"),
        ("a.ini", "[::1]:22\n[2001:db8::1]\nh[z:a]\nh[a:9]\n"),
        ("a.yaml", "all: {vars: {words: '[1:10000000]', glob: '*.c', x: &x {zone: a}}, hosts: {h: {<<: *x}}}\n"),
        ("a.yaml", "all: [*nothing, {\n"),
        ("a.yaml", "not: [closed *\n"),
    ],
)
def test_what_people_write_is_left_to_ansible(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    check_size(tmp_path / name)


@pytest.mark.parametrize("kind", ["fifo", "device"])
@pytest.mark.parametrize("name", ["a.json", "a.ini", "a.yaml"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str, name: str) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(InvalidInput, match=r"is a FIFO|is a device"):
        read_inventory(tmp_path / name, timeout_s=60)


def program(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "inventory"
    path.write_text(f"#!/usr/bin/env python3\n{body}\n")
    path.chmod(0o755)
    return path


def test_what_a_program_prints_without_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ansible_inventory, "_MEMORY_BYTES", 512 << 20)
    with pytest.raises(InvalidInput, match="inventory: "):
        read_inventory(program(tmp_path, "while True: print('{' * 65536)"), timeout_s=60)
    with pytest.raises(InvalidInput, match="is too large: ansible-inventory takes more than 512 MiB"):
        read_inventory(program(tmp_path, "print('[' + '0,' * 500_000_000)"), timeout_s=60)


def test_what_is_printed_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ansible_inventory, "_MOST_BYTES", 100)
    (tmp_path / "a.ini").write_text("[web]\nh[1:50]\n")
    with pytest.raises(InvalidInput, match=r"a\.ini: is too large"):
        read_inventory(tmp_path / "a.ini", timeout_s=120)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"a": [' + "[]," * 6_000_000 + "[]]}", "holds more than 5000000 values"),
        ('{"a": 1' + "0" * 100_000 + "}", "is not JSON"),
    ],
)
def test_a_listing_that_is_a_bomb_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_inventory(tmp_path / "a.json", timeout_s=60)


def listing(hostvars: Any, **groups: Any) -> dict[str, Any]:
    return {"_meta": {"hostvars": hostvars}, **groups}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (listing({"a": 5}), "host a: its variables must be a mapping"),
        (listing({}, web={"hosts": 5}), "group web: hosts must be a list of names"),
        (listing({}, web={"hosts": "abc"}), "group web: hosts must be a list of names"),
        (listing({}, web={"hosts": [["a"]]}), "group web: hosts must be a list of names"),
        (listing({}, web={"children": [{}]}), "group web: children must be a list of names"),
        (listing({"a\x1b[2J": {"zone": []}}), r"host a\x1b[2J: zone: must be one value"),
        (listing({}, **{"w\n": 5}), "group w must be a mapping"),
        (listing({"a": {"kernroll_labels": {f"l{n}": 1 for n in range(1001)}}}), "host a: has more than 1000 labels"),
        (listing({}, **{f"g{n}": {"hosts": ["a"]} for n in range(1001)}), "host a: is in more than 1000 groups"),
    ],
)
def test_any_shape_is_read_or_refused_in_words(content: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        inventory_labels(content, "a.json")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_host_without_variables_may_be_null() -> None:
    content = json.loads('{"_meta": {"hostvars": {"m-1": null}}, "all": {"hosts": ["m-1"], "children": null}}')
    assert inventory_labels(content, "a.json").hosts == {"m-1": {}}


def test_long_chains_of_groups_take_time_in_proportion() -> None:
    groups = {f"g{n}": {"children": [f"g{n + 1}"]} for n in range(900)}
    groups["g900"] = {"hosts": [f"h{n}" for n in range(100)]}
    assert len(inventory_labels(listing({}, **groups), "a.json").hosts["h0"]) == 901


def test_a_directory_is_read_as_ansible_reads_it(tmp_path: Path) -> None:
    for name in (".git/h.ini", "group_vars/web.yaml", ".hidden.ini"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[web]\nh[1:10000000]\n")
    (tmp_path / "group_vars/web.yaml").write_text("zone: a\n")
    (tmp_path / "gone.ini").symlink_to("nowhere")
    with (tmp_path / "backup.tar").open("wb") as large:
        large.truncate(1 << 30)
    (tmp_path / "script").write_text("#!/bin/sh\nh[1:10000000]\n")
    check_size(tmp_path)
    # An executable file is a program only when it says so.
    (tmp_path / "hosts.ini").write_text("[web]\nh[1:10000000]\n")
    (tmp_path / "hosts.ini").chmod(0o755)
    with pytest.raises(InvalidInput, match=r"hosts\.ini:2: stands for more"):
        check_size(tmp_path)


@pytest.mark.parametrize("text", ["[web]\nm-1 zone=a\n", "m-1 zone=a\n"])
def test_a_mark_that_ansible_does_not_know_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "hosts.ini").write_text(f"\ufeff{text}")
    with pytest.raises(InvalidInput, match=r"hosts\.ini: begins with a byte order mark"):
        check_size(tmp_path / "hosts.ini")
    (tmp_path / "hosts.ini").write_text("\ufeff# all of them\nall: {hosts: {m-1: {}}}\n")
    check_size(tmp_path / "hosts.ini")
