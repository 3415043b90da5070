"""What makes a machine a particular host: its name, its ssh keys, and who may log in. Kept beside its disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.local.ext4 import build_ext4
from controller.adapters.local.tools import run_tool

# Accounts that the machine's key opens: root, one whose sudo asks for nothing, one whose sudo asks for BECOME_PASSWORD.
ACCOUNTS = {"root": "root", "operator": "home/operator", "becomer": "home/becomer"}
BECOME_PASSWORD = "kernroll"

_TIMEOUT_S = 60.0
_HOST_KEY = "ssh_host_ed25519_key"
_OWNERS = {"root": (0, 0), "operator": (1000, 37), "becomer": (1001, 1001)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The files with which a machine is reached."""

    # The private key that all ACCOUNTS accept.
    identity: Path
    known_hosts: Path


def make_seed(directory: Path, name: str, port: int) -> Keys:
    """Write the seed disk `seed.raw` of a machine that will be reached at this port, and the keys to reach it."""
    tree, identity = directory / "seed", directory / "id_ed25519"
    ssh = tree / "etc/ssh"
    ssh.mkdir(parents=True, exist_ok=True)
    for key in (identity, ssh / _HOST_KEY):
        if not key.exists():
            make: list[str | Path] = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key]
            run_tool(make, timeout_s=_TIMEOUT_S, what=f"Making a key of {name}")
    (tree / "etc/hostname").write_text(f"{name}\n", encoding="utf-8")
    (tree / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n", encoding="utf-8")
    public = identity.with_suffix(".pub").read_bytes()
    for account, home in ACCOUNTS.items():
        folder = tree / home / ".ssh"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "authorized_keys").write_bytes(public)
        for path, mode in ((folder.parent, 0o700), (folder, 0o700), (folder / "authorized_keys", 0o600)):
            path.chmod(mode)
            _give(path, account)
    kind, key_text = (ssh / f"{_HOST_KEY}.pub").read_text(encoding="ascii").split()[:2]
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {kind} {key_text}\n", encoding="ascii")
    draft = directory / ".seed.draft"
    draft.unlink(missing_ok=True)
    build_ext4(tree, draft)
    draft.replace(directory / "seed.raw")
    return Keys(identity=identity, known_hosts=known_hosts)


def _give(path: Path, account: str) -> None:
    """Give a file to an account of the machine. Only root can; sshd there refuses keys that belong to others."""
    os.chown(path, *_OWNERS[account])
