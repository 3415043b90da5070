"""Compiles Python trees for the guests' Python on the host, so that an emulated guest need not do it at each start."""

from pathlib import Path

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES, AptRoot, unpack
from controller.adapters.kernels.debian.suites import host_architecture
from controller.adapters.local.cache import Cache, Progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent

GUEST_PYTHON = "3.13"
_LOADERS = {
    "x86_64": ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"),
    "arm64": ("usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"),
}
# Newer Debian packages have no files outside usr, but their libraries are looked for there.
MERGED = ("bin", "sbin", "lib")
_TIMEOUT_S = 600.0


def merge_usr(tree: Path) -> None:
    """Make an empty tree one whose /bin, /sbin and /lib are links into /usr, as Debian's are."""
    for name in (*MERGED, "lib64"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")


def guest_python(cache: Cache, packages: AptRoot, progress: Progress) -> Path:
    """Return an unpacked Python of the guests' version that this machine can run natively. Errors as in AptRoot."""
    architecture = DEBIAN_ARCHITECTURES[host_architecture()]

    def build(directory: Path) -> None:
        archives = packages.closure([f"python{GUEST_PYTHON}", "libc6"], architecture, progress)
        merge_usr(directory)
        unpack(packages.fetch(archives, progress, label="Python"), directory, progress, label="Python")

    return cache.publish(f"python/{GUEST_PYTHON}-{architecture}", build)


def compile_tree(python: Path, tree: Path, folders: list[str], guest_prefix: str = "/") -> None:
    """Write bytecode beside the Python files of `folders` (relative to `tree`), valid whatever their times.

    Tracebacks show the files where the guest has the tree: at `guest_prefix`. Files that do not compile are left alone.
    """
    loader, libraries = _LOADERS[host_architecture()]
    command: list[str | Path] = [python / loader, "--library-path", python / libraries]
    command += [python / f"usr/bin/python{GUEST_PYTHON}", "-I", "-m", "compileall", "-q", "-f"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", tree, "-p", guest_prefix]
    command += [tree / folder for folder in folders]
    try:
        run_tool(
            command,
            timeout_s=_TIMEOUT_S,
            what="Compiling Python files",
            environment={"PYTHONHOME": str(python / "usr")},
        )
    except Permanent as error:
        # compileall fails for the whole run when one file has a syntax error; some packages ship such files on purpose.
        if "SyntaxError" not in str(error) and "***" not in str(error):
            raise
