"""A private apt root: its own sources, lists and settings, so that the machine's package state is never touched."""

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.kernels.debian.archives import Archive, fetch, parse_records, parse_uris
from controller.adapters.kernels.debian.mirror import MIRROR_SETTING, find_keyring, find_mirror, transport_settings
from controller.adapters.local.cache import Cache, Progress, request_key
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent, Temporary

_UPDATE_TIMEOUT_S = 300.0
_QUERY_TIMEOUT_S = 60.0
_LISTS_MAX_AGE_S = 6 * 3600.0
_LISTS_BYTES = 200 * 2**20
# A dpkg status record; the high version satisfies any dependency.
_ASSUMED = (
    "Package: {name}\nStatus: install ok installed\nMaintainer: none\nArchitecture: all\n"
    "Multi-Arch: foreign\nVersion: 999:0\nDescription: treated as present\n\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageVersion:
    """One version of a package that the mirror offers."""

    package: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AptRoot:
    """Asks one mirror about packages of some suites, for Debian architectures such as "amd64" and "arm64"."""

    cache: Cache
    # Suites such as "trixie-backports"; all must exist on the mirror.
    suites: tuple[str, ...]
    architectures: tuple[str, ...]
    # Packages that count as installed: a dpkg status file. None counts only `assumed` as installed.
    status: Path | None = None
    # Package names that are treated as installed although they are not, so that they are never fetched.
    assumed: tuple[str, ...] = ()
    # None asks the machine's apt (and KERNROLL_DEBIAN_MIRROR).
    mirror: str | None = None

    def prepare(self, progress: Progress) -> Path:
        """Return the settings file of this root, with package lists at most some hours old.

        Raises Temporary when the mirror cannot be reached and there are no older lists to go on with.
        """
        mirror = self.mirror or find_mirror()
        name = "apt/" + request_key(
            {
                "cache": str(self.cache.root),
                "mirror": mirror,
                "suites": self.suites,
                "architectures": self.architectures,
                "status": str(self.status),
                "assumed": self.assumed,
            }
        )
        with self.cache.lock(name):
            directory = self.cache.root / name
            configuration = directory / "apt.conf"
            fresh = directory / "updated"
            if not _is_fresh(fresh):
                self.cache.require_room(_LISTS_BYTES, "the package index")
                self._write(directory, mirror)
                progress(f"package lists of {', '.join(self.suites)}", 0, 0)
                self._update(configuration, fresh, mirror)
        return configuration

    def versions(self, pattern: str, architecture: str, progress: Progress) -> list[PackageVersion]:
        """Return every offered version of the packages whose whole name matches a POSIX extended regular expression."""
        configuration = self.prepare(progress)
        # Asking in the configured native architecture keeps apt's index valid from one call to the next.
        names = self._ask(configuration, ["apt-cache", "search", "--names-only", f"^({pattern})$"])
        found = sorted({line.split(" - ")[0].strip() for line in names.splitlines() if " - " in line})
        if not found:
            return []
        records = parse_records(
            self._ask(configuration, ["apt-cache", "show", *[f"{name}:{architecture}" for name in found]])
        )
        pairs = {(record["Package"], record["Version"]) for record in records if "Version" in record}
        return [PackageVersion(package=name, version=version) for name, version in sorted(pairs)]

    def closure(
        self, packages: Sequence[str], architecture: str, progress: Progress, *, default_release: str | None = None
    ) -> list[Archive]:
        """Return the packages and everything they depend on (no recommendations) that does not count as installed.

        Raises Permanent naming the package that is not offered or cannot be satisfied.
        """
        configuration = self.prepare(progress)
        command = [
            "apt-get",
            "install",
            "--print-uris",
            "-qq",
            "-y",
            "--no-install-recommends",
            "--allow-change-held-packages",
        ]
        command += [f"-oAPT::Architecture={architecture}"]
        if default_release:
            command += ["-t", default_release]
        what = f"Resolving {', '.join(packages)} ({architecture}) from {', '.join(self.suites)}"
        uris = parse_uris(self._ask(configuration, [*command, *packages], what))
        names = sorted({name.split("_")[0] for name in uris})
        return self._describe(configuration, uris, ["apt-cache", f"-oAPT::Architecture={architecture}", "show", *names])

    def exact(self, packages: Iterable[PackageVersion], architecture: str, progress: Progress) -> list[Archive]:
        """Return the files of exactly these packages, without their dependencies."""
        configuration = self.prepare(progress)
        chosen = [f"{package.package}:{architecture}={package.version}" for package in packages]
        uris = parse_uris(self._ask(configuration, ["apt-get", "download", "--print-uris", "-qq", *chosen]))
        return self._describe(configuration, uris, ["apt-cache", "show", *chosen])

    def needed_exactly(self, package: str, version: str, architecture: str, progress: Progress) -> set[str]:
        """Return the packages that one needs in exactly its own version: the other parts of the same build."""
        configuration = self.prepare(progress)
        output = self._ask(configuration, ["apt-cache", "show", f"{package}:{architecture}={version}"])
        needed = ",".join(record.get("Depends", "") for record in parse_records(output))
        return set(re.findall(rf"([a-z0-9][a-z0-9.+-]+) \(= {re.escape(version)}\)", needed))

    def fetch(self, archives: Sequence[Archive], progress: Progress, *, label: str) -> list[Path]:
        """Bring package files into the cache and return their paths in order. Errors as in archives.fetch."""
        environment = {"APT_CONFIG": str(self.prepare(progress))}
        return fetch(archives, self.cache.root / "archives", progress, label=label, environment=environment)

    def _describe(self, configuration: Path, uris: dict[str, str], show: list[str]) -> list[Archive]:
        """Add version, size and SHA-256, which `--print-uris` does not reliably tell, from the signed index."""
        if not uris:
            return []
        output = self._ask(configuration, show)
        by_file = {
            record["Filename"].rsplit("/", 1)[1]: record for record in parse_records(output) if "Filename" in record
        }
        archives = []
        for name, uri in uris.items():
            record = by_file.get(name)
            if record is None or not re.fullmatch("[0-9a-f]{64}", record.get("SHA256", "")):
                raise Permanent(f"The package index has no SHA-256 for {name}; it cannot be checked and is not used.")
            archives.append(
                Archive(
                    package=record["Package"],
                    version=record["Version"],
                    uri=uri,
                    size_bytes=int(record["Size"]),
                    sha256=record["SHA256"],
                )
            )
        return archives

    def _ask(self, configuration: Path, command: list[str], what: str = "Asking the package index") -> str:
        output = run_tool(
            command, timeout_s=_QUERY_TIMEOUT_S, what=what, environment={"APT_CONFIG": str(configuration)}
        )
        return output.decode(errors="replace")

    def _write(self, directory: Path, mirror: str) -> None:
        for part in (
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/dpkg",
            "var/cache/apt",
        ):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "var/lib/apt/lists/partial").mkdir(parents=True, exist_ok=True)
        options = f"[signed-by={find_keyring()} arch={','.join(self.architectures)}]"
        sources = "".join(f"deb {options} {mirror} {suite} main\n" for suite in self.suites)
        (directory / "etc/apt/sources.list").write_text(sources, encoding="utf-8")
        status = self.status or directory / "var/lib/dpkg/status"
        if self.status is None:
            status.write_text("".join(_ASSUMED.format(name=name) for name in self.assumed), encoding="utf-8")
        architectures = " ".join(f'"{name}";' for name in self.architectures)
        settings = [
            f'Dir "{directory}";',
            f'Dir::State::status "{status}";',
            f'APT::Architecture "{self.architectures[0]}";',
            f"APT::Architectures {{ {architectures} }};",
            # The lists stay compressed and only one index is kept: they are the largest part of a small cache.
            'Acquire::GzipIndexes "true";',
            'Dir::Cache::srcpkgcache "";',
            'Acquire::Languages "none";',
            # Only this user can write here; the usual download account could not.
            'APT::Sandbox::User "root";',
        ]
        (directory / "apt.conf").write_text("\n".join(settings) + "\n" + transport_settings(), encoding="utf-8")

    def _update(self, configuration: Path, fresh: Path, mirror: str) -> None:
        try:
            run_tool(
                ["apt-get", "update", "-qq", "-oAPT::Update::Error-Mode=any"],
                timeout_s=_UPDATE_TIMEOUT_S,
                what=f"Reading the package lists of {', '.join(self.suites)}",
                environment={"APT_CONFIG": str(configuration)},
            )
        except Permanent as error:
            if "disk is full" in str(error):
                raise
            if fresh.exists():
                # Older lists still answer; a package that is gone since then is reported when it is fetched.
                return
            raise Temporary(
                f"{error} The mirror is {mirror}: check the network, or set {MIRROR_SETTING} to another mirror."
            ) from error
        fresh.touch()


def _is_fresh(stamp: Path) -> bool:
    """Tell whether the lists are recent, by comparing file times only: the wall clock belongs to the clock adapter."""
    try:
        age_s = _file_system_now(stamp.parent) - stamp.stat().st_mtime
    except FileNotFoundError:
        return False
    return 0 <= age_s < _LISTS_MAX_AGE_S


def _file_system_now(directory: Path) -> float:
    probe = directory / f".now-{os.getpid()}-{time.monotonic_ns()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
