"""The guests' userland as a directory tree: Debian packages and wheels, unpacked and slimmed, never run."""

import shutil
from pathlib import Path

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
