"""Management controllers in an Ansible inventory: groups, templates and vaults mean what they mean to Ansible."""

import subprocess
import sys
from pathlib import Path

import pytest

from controller.adapters.power.inventory import read_power

INVENTORY = """\
all:
  vars: {kernroll_power_user: admin}
  children:
    racked:
      vars: {kernroll_power: "redfish://{{ bmc }}/redfish/v1/Systems/1"}
      hosts:
        a: {bmc: bmc-a.example}
        b: {kernroll_host: b.example, kernroll_power: "ipmi://10.0.0.2", kernroll_power_password: !unsafe "x{{y"}
        c: {kernroll_power_verify: false}
  hosts: {d: {}}
"""
TIMEOUT_S = 120.0


def encrypted(folder: Path, text: str) -> str:
    (folder / "vault").write_text("key\n", encoding="utf-8")
    program = [str(Path(sys.executable).parent / "ansible-vault"), "encrypt_string", "--vault-password-file"]
    command = [*program, str(folder / "vault"), "--name", "kernroll_power_password", text]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S).stdout


def test_ansible_fills_in_and_decrypts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(INVENTORY, encoding="utf-8")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/racked.yml").write_text(encrypted(tmp_path, "from the vault"), encoding="utf-8")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "vault"))
    found = read_power(inventory, timeout_s=TIMEOUT_S)
    assert sorted(found) == ["a", "b.example", "c"]
    assert found["a"] == {
        "kernroll_power": "redfish://bmc-a.example/redfish/v1/Systems/1",
        "kernroll_power_user": "admin",
        "kernroll_power_password": "from the vault",
    }
    assert found["b.example"]["kernroll_power_password"] == "x{{y"
    # Nobody has said what the template's variable is.
    assert found["c"]["kernroll_power"] is None
    assert found["c"]["kernroll_power_verify"] == "False"
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    assert read_power(inventory, timeout_s=TIMEOUT_S)["a"]["kernroll_power_password"] is None
