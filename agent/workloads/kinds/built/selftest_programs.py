"""Where the kernel's own test programs are: installed, or built from a kernel's source and kept if that is wanted."""

from collections.abc import Sequence
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.work.selftests import Program
from agent.workloads.kinds.built.kernel_source import is_partial, unpack
from agent.workloads.port import Host, StepReporter

# Where distributions that package them, and the lab's images, have them.
INSTALLED = Path("/usr/libexec/kselftests")
BUILD_TOOLS = ("make", "gcc", "ld")
_SELFTESTS = Path("tools/testing/selftests")
# Of a source directory, what building the programs and the headers that they include reads; it is copied, because
# some of them write beside their sources.
_PARTS = ("Kbuild", "Kconfig", "Makefile", "arch", "include", "lib", "mm", "scripts", "tools", "usr")
_COPY_TIMEOUT_S = 1800.0
_BUILD_TIMEOUT_S = 3600.0
# Whatever the agent's environment says, the same is built.
_ENVIRONMENT = {"MAKEFLAGS": "", "CCACHE_DISABLE": "1"}


def find_installed(host: Host, named: str) -> Path | None:
    """Return the directory of the programs: the named one, else the usual one where it is there; None when neither."""
    if named:
        return Path(named)
    return INSTALLED if host.files.names(INSTALLED) else None


def find_program(host: Host, directory: Path, program: Program) -> Path | None:
    """Return a program's path; None when it is not there."""
    return next((path for place in program.places if host.files.exists(path := directory / place)), None)


def refusals(host: Host, installed: Path | None, source: str) -> tuple[str, ...]:
    """Return why there are no programs, and can be none; empty when there can."""
    if installed is not None:
        return () if host.files.exists(installed) else (f"{installed}, the selftests' directory, is not there",)
    if not source:
        return (
            "no selftests are here; name what `make install` of the kernel's selftests has left "
            "(--selftests-directory), or install linux-source, gcc and make, which build them",
        )
    if is_partial(source):
        return (f"{source} is cut down and has no selftests; name another source, or --selftests-directory",)
    missing = [tool for tool in BUILD_TOOLS if not host.tools.has(tool)]
    return (f"{', '.join(missing)} not installed; install gcc and make",) if missing else ()


async def build(
    host: Host, source: str, work: Path, programs: Sequence[Program], *, jobs: int, step: StepReporter
) -> Path:
    """Make the work directory, build what of the programs can be built, return where they are. Raises RigError."""
    step("unpacking the source of the selftests")
    tree = await unpack(host, source, work)
    own = work / "source"
    if tree.source != own:
        parts = [str(tree.source / part) for part in _PARTS if host.files.exists(tree.source / part)]
        host.files.make_directory(own)
        ended = await host.workers.run(("cp", "-a", "-t", str(own), *parts), timeout_s=_COPY_TIMEOUT_S)
        if ended.status:
            raise RigError(f"{source} cannot be copied: {ended.complaint}")
    step("making the headers of the selftests")
    make = ("make", "-s", f"-j{jobs}", "-C")
    ended = await host.workers.run((*make, str(own), "headers"), timeout_s=_BUILD_TIMEOUT_S, environment=_ENVIRONMENT)
    if ended.status:
        raise RigError(f"make headers failed: {ended.complaint}; is this a clean kernel source?")
    complaints = []
    for folder, names in _by_folder(host, own, programs).items():
        step(f"building the selftests of {folder}")
        output = tree.output / folder
        host.files.make_directory(output)
        # What needs a library that is not here is left out and named when it is missing.
        command = (*make, str(own / _SELFTESTS / folder), "-k", f"OUTPUT={output}", *(f"{output}/{n}" for n in names))
        ended = await host.workers.run(command, timeout_s=_BUILD_TIMEOUT_S, environment=_ENVIRONMENT)
        complaints += [ended.complaint] if ended.status else []
    if not any(find_program(host, tree.output, program) for program in programs):
        raise RigError(
            f"none of the selftests could be built from {source}: {'; '.join(complaints) or 'none is there'}"
        )
    await host.files.remove_tree(own)
    return tree.output


def _by_folder(host: Host, source: Path, programs: Sequence[Program]) -> dict[str, list[str]]:
    """Return the folders of the selftests that the source has, each with the names of the programs in it."""
    found: dict[str, list[str]] = {}
    for program in programs:
        for place in program.places:
            folder, _, name = place.partition("/")
            if host.files.exists(source / _SELFTESTS / folder / f"{name}.c"):
                found.setdefault(folder, []).append(name)
                break
    return found
