"""A machine that is reached by ssh and boots by GRUB: Debian's own sshd and sudo inside a GrubMachine's root.

What playbooks do on it stays in its mount namespace. It listens on the loopback interface, with a key of its own.
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grub_machine import GrubMachine

from controller.adapters.kernels.debian import unpack
from controller.adapters.kernels.debian.suites import host_packages
from controller.adapters.local.cache import Cache, no_progress

OPERATOR, PASSWORD = "operator", "correct horse"
_SSHD = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
MaxStartups 100
PidFile none
Subsystem sftp internal-sftp
SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
"""
_ACCOUNTS = """
mkdir -p /root /home/operator /run/sshd /etc/ssh /etc/pam.d /var/tmp /opt /var/lib /var/cache
chmod 1777 /tmp /var/tmp
cat > /etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
operator:x:4242:4242::/home/operator:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
END
printf 'root:x:0:\\nshadow:x:42:\\noperator:x:4242:\\nnogroup:x:65534:\\n' > /etc/group
echo '127.0.0.1 localhost' > /etc/hosts
printf 'passwd: files\\ngroup: files\\nshadow: files\\nhosts: files\\n' > /etc/nsswitch.conf
chown -R 4242:4242 /home/operator
hash=$(perl -e 'print crypt("PASSWORD", q($6$salt$))')
printf 'root:*:19000::::::\\noperator:%s:19000::::::\\n' "$hash" > /etc/shadow
chmod 640 /etc/shadow
cat > /etc/pam.d/sudo <<'END'
auth required pam_unix.so
account required pam_permit.so
session required pam_permit.so
END
printf 'Defaults env_reset\\nroot ALL=(ALL) ALL\\noperator ALL=(ALL) ALL\\n' > /etc/sudoers
chmod 440 /etc/sudoers
chmod 4755 /usr/bin/sudo
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshMachine:
    """One such machine, while its sshd runs."""

    machine: GrubMachine
    port: int
    # Where the key to it and the list of known hosts lie.
    directory: Path

    def variables(self, **more: Any) -> Mapping[str, Any]:
        """Return the inventory's variables of this machine."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self.directory / 'known_hosts'}",
            **more,
        }

    def put(self, path: str, content: str, mode: int = 0o755) -> None:
        """Write a file on the machine."""
        done = self.machine.run("tee", f"{self.machine.root}{path}", stdin=content)
        assert done.returncode == 0, done.stderr
        self.machine.tool("chmod", f"{mode:o}", path)


def ssh_tree() -> Path:
    """Return Debian's sshd and sudo, unpacked into the cache; nothing is installed on this machine."""
    cache = Cache.from_environment()
    packages = host_packages(cache)
    archives = packages.closure(["openssh-server", "sudo"], packages.architectures[0], no_progress)

    def build(directory: Path) -> None:
        unpack(packages.fetch(archives, no_progress, label="sshd"), directory, no_progress, label="sshd")

    return cache.publish("sshd/" + "-".join(sorted(one.sha256[:8] for one in archives))[:200], build)


@contextmanager
def ssh_machine(machine: GrubMachine, directory: Path) -> Iterator[SshMachine]:
    """Start sshd on a machine; what is needed to connect is made in `directory`."""
    tree = ssh_tree()
    for source, target in (("usr/.", "usr/"), ("lib/.", "usr/lib/"), ("bin/.", "usr/bin/"), ("sbin/.", "usr/sbin/")):
        if (tree / source).exists():
            done = machine.run("cp", "-a", f"{tree}/{source}", f"{machine.root}/{target}")
            assert done.returncode == 0, done.stderr
    machine.sh(_ACCOUNTS.replace("PASSWORD", PASSWORD))
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (directory / "sshd_config").write_text(f"ListenAddress 127.0.0.1:{port}\n{_SSHD}")
    shutil.copy(directory / "key.pub", directory / "authorized_keys")
    for name in ("host_key", "sshd_config", "authorized_keys"):
        done = machine.run("install", "-m", "600", str(directory / name), f"{machine.root}/etc/ssh/{name}")
        assert done.returncode == 0, done.stderr
    machine.sh("chmod 644 /etc/ssh/authorized_keys")
    kind, key = (directory / "host_key.pub").read_text().split()[:2]
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    command = machine.command("chroot", str(machine.root), "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            heard = []
            for line in server.stderr:
                heard.append(line)
                if "Server listening" in line:
                    break
            assert server.poll() is None, heard
            yield SshMachine(machine=machine, port=port, directory=directory)
        finally:
            server.send_signal(signal.SIGKILL)
