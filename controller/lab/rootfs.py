"""The guests' userland as a directory tree: Debian packages and wheels, unpacked and slimmed, never run."""

import importlib.metadata
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from controller.adapters.local.cache import Progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent, Temporary
from controller.lab.bytecode import GUEST_PYTHON

PACKAGES = (
    "base-files",
    "busybox-static",
    "kmod",
    "libc6",
    "libstdc++6",
    "mount",
    "procps",
    "python3",
    "util-linux",
)
# What the workloads that measure programs of the distribution need beside that.
WORKLOAD_PACKAGES = (
    "bc",
    "bison",
    "flex",
    "gcc",
    "libc6-dev",
    "make",
    "stress-ng",
    "tar",
    "valkey-server",
    "valkey-tools",
    "xz-utils",
)
GUEST_FILES = Path(__file__).parent / "guest_files"
WHEELS_FOLDER = "opt/kernroll/lib"

_PLATFORM_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
_PLATFORM_LEVELS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_PIP_TIMEOUT_S = 600.0
_MOST_WHEEL_BYTES = 512 << 20
_UNUSED_FOLDERS = (
    *(
        f"usr/share/{name}"
        for name in ("doc", "doc-base", "info", "lintian", "locale", "man", "bash-completion", "bug")
    ),
    *(
        f"usr/share/{name}"
        for name in ("icons", "applications", "pixmaps", "zsh", "gdb", "common-licenses", "initramfs-tools")
    ),
    *(f"usr/lib/python{GUEST_PYTHON}/{name}" for name in ("test", "idlelib", "ensurepip", "turtledemo", "pydoc_data")),
)
# Linked to busybox where no package brings the real one.
_APPLETS = (
    "sh ash awk basename cat chmod chown clear cp cut date dd df dirname du echo env expr false find free "
    "grep head hostname id ifconfig ip kill less ln ls mkdir mknod mktemp mv nproc od printf ps pwd "
    "readlink reboot poweroff rm rmdir sed seq sleep sort stat sync tail tar tee test time touch tr true "
    "uname uniq uptime vi wc which xargs"
)


def wheel_requirements() -> list[str]:
    """Return what the agent needs from the package index, as the project's own metadata states it."""
    try:
        requirements = importlib.metadata.requires("kernroll") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    found = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        if re.search(r"extra == ['\"](agent|enroll)['\"]", marker):
            found.append(name.strip())
    if not found:
        raise Permanent(
            "The installed kernroll does not state the agent's requirements. Install it again (`make setup`)."
        )
    return sorted(found)


def download_wheels(architecture: str, directory: Path, progress: Progress) -> list[Path]:
    """Fetch the agent's wheels for a guest. Raises Temporary when the package index cannot be reached."""
    progress(f"Python packages for {architecture}", 0, 0)
    command: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--dest", directory, "--python-version", GUEST_PYTHON, "--implementation", "cp"]
    command += ["--only-binary=:all:"]
    for level in _PLATFORM_LEVELS:
        command += ["--platform", f"{level}_{_PLATFORM_MACHINES[architecture]}"]
    try:
        run_tool(
            [*command, *wheel_requirements()], timeout_s=_PIP_TIMEOUT_S, what="Fetching the agent's Python packages"
        )
    except Permanent as error:
        if "disk is full" in str(error):
            raise
        raise Temporary(f"{error} Check the network and pip's index settings, then try again.") from error
    return sorted(directory.glob("*.whl"))


def install_wheels(wheels: Sequence[Path], tree: Path) -> None:
    """Unpack wheels side by side; what wheels put elsewhere (scripts, headers) is not needed by the agent."""
    target = tree / WHEELS_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as content:
            members = [name for name in content.namelist() if ".data/" not in name]
            size_bytes = sum(content.getinfo(name).file_size for name in members)
            if size_bytes > _MOST_WHEEL_BYTES:
                raise Permanent(
                    f"{wheel.name} holds {size_bytes >> 20} MiB, more than a Python package of the agent's has"
                )
            content.extractall(target, members)


def complete(tree: Path) -> None:
    """Turn unpacked packages into a bootable tree: first process, shell, accounts, mount points."""
    for folder in _UNUSED_FOLDERS:
        shutil.rmtree(tree / folder, ignore_errors=True)
    for folder in ("dev", "proc", "sys", "run", "tmp", "root", "mnt", "usr/lib/modules", "var/lib/kernroll", "etc"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "root").chmod(0o700)
    init = tree / "usr/sbin/kernroll-init"
    shutil.copyfile(GUEST_FILES / "kernroll-init", init)
    init.chmod(0o755)
    for applet in _APPLETS.split():
        if not any(
            (tree / folder / applet).is_symlink() or (tree / folder / applet).exists()
            for folder in ("usr/bin", "usr/sbin")
        ):
            (tree / "usr/bin" / applet).symlink_to("busybox")
    _write(
        tree / "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )
    _write(tree / "etc/group", "root:x:0:\nnogroup:x:65534:\n")
    _write(tree / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    _write(tree / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    _write(tree / "etc/resolv.conf", "")
    mounts = tree / "etc/mtab"
    mounts.unlink(missing_ok=True)
    mounts.symlink_to("/proc/self/mounts")


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
