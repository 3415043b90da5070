"""Full machines that stay on: their inventory as Ansible reads it, and what is refused before anything is built."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.local.cache import Cache, no_progress
from controller.cli.app import run
from controller.domain.errors import InvalidInput, Permanent
from controller.lab.full.fleet import inventory, known_machines, make_machines, require_memory
from controller.lab.full.machine import FullMachine, Hardware, MadeOf, known_machine
from controller.lab.full.seed import Keys
from controller.lab.toolset import Toolset


def machine(name: str, shape: str, port: int) -> FullMachine:
    directory = Path("/lab") / name
    keys = Keys(identity=directory / "id_ed25519", known_hosts=directory / "known_hosts")
    made_of = MadeOf(shape=shape, release="6.12.1", port=port, hardware=Hardware())
    return FullMachine(directory, made_of, toolset=Toolset(directory=None, version="10"), firmware=None, keys=keys)


def test_ansible_reads_the_inventory_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    machines = [machine("metal-1", "x86_64-bios-grub", 2201), machine("metal-2", "arm64-uefi-grub", 2202)]
    path.write_text(inventory(machines))
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run(
        [program, "-i", path, "--list"], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    told = json.loads(done.stdout)
    assert told["x86_64_bios_grub"]["hosts"] == ["metal-1"]
    assert told["arm64_uefi_grub"]["hosts"] == ["metal-2"]
    second = told["_meta"]["hostvars"]["metal-2"]
    assert (second["ansible_host"], second["ansible_port"], second["ansible_become"]) == ("127.0.0.1", 2202, True)
    assert second["ansible_ssh_private_key_file"] == "/lab/metal-2/id_ed25519"


def test_an_unknown_shape_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no machine shaped vax"):
        make_machines(Cache(root=tmp_path), tmp_path, ["x86_64-bios-grub", "vax"], Hardware(), no_progress)
    assert list(tmp_path.iterdir()) == []


def test_more_machines_than_memory_are_refused() -> None:
    require_memory(2, Hardware(memory_mib=2048), 6000)
    with pytest.raises(InvalidInput, match="3 machines of 2048 MiB take 7768 MiB, and 6000 MiB are free"):
        require_memory(3, Hardware(memory_mib=2048), 6000)


def test_a_directory_that_is_no_machine_is_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "metal-1").mkdir()
    assert known_machines(Cache(root=tmp_path), tmp_path) == []
    (tmp_path / "metal-1/machine.json").write_text('{"shape": "x86_64-bios-grub"}')
    with pytest.raises(Permanent, match=r"machine\.json does not describe a machine"):
        known_machine(Cache(root=tmp_path), tmp_path / "metal-1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--shape", "arm64-uefi-grub"], "--shape belongs to `lab up --profile full`"),
        (["up", "--watchdog"], "--watchdog belongs to `lab up --profile full`"),
        (["up", "--profile", "full", "--kernel", "7.3.4"], "--kernel belongs to `lab up --profile direct`"),
        (["up", "--profile", "full", "--arm64", "1"], "--arm64 belongs to `lab up --profile direct`"),
    ],
)
def test_an_option_of_the_other_profile_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["lab", *arguments, "--fleet-dir", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_status_says_how_machines_are_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["lab", "status", "--profile", "full", "--fleet-dir", str(tmp_path)]) == 5
    assert "`kernroll lab up --profile full` makes some" in capsys.readouterr().err
