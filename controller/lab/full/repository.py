"""A package repository of one's own: package files in a directory that apt reads over HTTP, signed by its own key."""

import gzip
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES
from controller.adapters.local.cache import Cache, Progress, no_progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent
from controller.lab.full.image import FullImage
from controller.lab.full.shapes import SHAPES
from controller.lab.full.userland import full_packages

SUITE = "kernroll"
COMPONENT = "main"
_TIMEOUT_S = 120.0
_OWNER = "kernroll lab <lab@kernroll.invalid>"
_SIGNED = "InRelease"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A finished repository; serve its directory over HTTP."""

    directory: Path
    # The public key, in armour.
    key: str
    # The names of its packages.
    packages: tuple[str, ...]

    def source(self, address: str) -> str:
        """Return what belongs into a file NAME.sources of /etc/apt/sources.list.d, given where it is served."""
        key = "\n".join(f" {line or '.'}" for line in self.key.strip().splitlines())
        return f"Types: deb\nURIs: {address}\nSuites: {SUITE}\nComponents: {COMPONENT}\nSigned-By:\n{key}\n"


def packages_beyond(
    cache: Cache, image: FullImage, wanted: Sequence[str], progress: Progress = no_progress
) -> list[Path]:
    """Return the files of packages, and of what they depend on, that a machine of this image does not have.

    Raises Permanent naming what the mirror does not offer, and Temporary when it is out of reach.
    """
    root = full_packages(cache)
    architecture = DEBIAN_ARCHITECTURES[SHAPES[image.shape].architecture]
    # What makes initial RAM disks has alternatives; the machine has chosen.
    archives = root.closure([*wanted, "tiny-initramfs"], architecture, progress)
    missing = [one for one in archives if f"{one.package} {one.version}" not in image.contents]
    return root.fetch(missing, progress, label=", ".join(wanted))


def write_repository(directory: Path, files: Sequence[Path], *, now_s: float) -> Repository:
    """Write a repository of these package files, over the one that is there.

    `now_s`, in seconds since the epoch, dates it: apt refuses one from the future. Its key is made anew each time.
    """
    for part in ("pool", "dists"):
        shutil.rmtree(directory / part, ignore_errors=True)
    pool, suite = directory / "pool", directory / "dists" / SUITE
    pool.mkdir(parents=True)
    entries: dict[str, list[str]] = {}
    packages = []
    for file in files:
        architecture, package, entry = _add(file, pool)
        entries.setdefault(architecture, []).append(entry)
        packages.append(package)
    everywhere = entries.pop("all", [])
    architectures = sorted(entries) or sorted(DEBIAN_ARCHITECTURES.values())
    for architecture in architectures:
        folder = suite / COMPONENT / f"binary-{architecture}"
        folder.mkdir(parents=True)
        text = "\n".join([*entries.get(architecture, []), *everywhere]).encode()
        (folder / "Packages").write_bytes(text)
        (folder / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
    release = _release(suite, architectures, now_s)
    key = _sign(release, suite / _SIGNED)
    return Repository(directory=directory, key=key, packages=tuple(sorted(packages)))


def _add(file: Path, pool: Path) -> tuple[str, str, str]:
    """Copy a package file into the pool; return its architecture, its package's name, and its entry in the index."""
    control = run_tool(["dpkg-deb", "--field", file], timeout_s=_TIMEOUT_S, what=f"Reading {file.name}").decode()
    fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and not line.startswith(" "))
    version = fields["Version"].partition(":")[2] or fields["Version"]
    name = f"{fields['Package']}_{version}_{fields['Architecture']}.deb"
    shutil.copyfile(file, pool / name)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    entry = f"{control.strip()}\nFilename: pool/{name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
    return fields["Architecture"], fields["Package"], entry


def _release(suite: Path, architectures: Sequence[str], now_s: float) -> str:
    lines = [f"Origin: {SUITE}", f"Label: {SUITE}", f"Suite: {SUITE}", f"Codename: {SUITE}"]
    lines += [f"Date: {formatdate(now_s, usegmt=True)}", f"Architectures: {' '.join(architectures)}"]
    lines += [f"Components: {COMPONENT}", "SHA256:"]
    for path in sorted(path for path in suite.rglob("Packages*") if path.is_file()):
        content = path.read_bytes()
        lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {path.relative_to(suite)}")
    return "\n".join(lines) + "\n"


def _sign(text: str, target: Path) -> str:
    """Write the text signed in clear, and return the public key of the signature, in armour."""
    with _keyring() as gpg:
        make = [*gpg, "--passphrase", "", "--quick-generate-key", _OWNER, "ed25519", "sign", "never"]
        run_tool(make, timeout_s=_TIMEOUT_S, what="Making the repository's key")
        sign = [*gpg, "--clearsign", "--digest-algo", "SHA512", "--output", target]
        run_tool(sign, timeout_s=_TIMEOUT_S, what="Signing the repository", stdin=text.encode())
        key = run_tool([*gpg, "--armor", "--export"], timeout_s=_TIMEOUT_S, what="Reading the repository's key")
    if not key:
        raise Permanent("The repository's key was made and cannot be read again; check that gpg works here.")
    return key.decode()


@contextmanager
def _keyring() -> Iterator[list[str | Path]]:
    """Yield the command line of gpg with a keyring that is gone afterwards, and its agent with it."""
    with tempfile.TemporaryDirectory(prefix="kernroll-keyring-") as home:
        try:
            yield ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--yes", "--pinentry-mode", "loopback"]
        finally:
            end = ["gpgconf", "--homedir", home, "--kill", "all"]
            run_tool(end, timeout_s=_TIMEOUT_S, what="Ending the repository's key agent")
