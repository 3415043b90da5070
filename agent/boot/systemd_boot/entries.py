"""What systemd-boot offers: entries of the Boot Loader Specification, and unified kernel images beside them.

Sources: UAPI.1 (files, counters, order), systemd-boot's own boot.c where the two differ.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from agent.boot.host import Host
from agent.boot.systemd_boot.images import read_unified, release_of
from agent.boot.systemd_boot.versions import version_key
from agent.boot.values import BrokenHost, Entry, is_single_user

_COUNTER: Final = re.compile(r"\+([0-9]{1,9})(?:-([0-9]{1,9}))?$")
_RELEASE: Final = re.compile(r"[0-9][0-9A-Za-z.+~_-]{0,63}$")
_IN_PATH: Final = re.compile(r"(?:/|/(?:vmlinuz|vmlinux|linux|kernel|Image)-)([0-9][0-9A-Za-z.+~_-]{0,63})(?:/linux)?$")
_ARCHITECTURES: Final = {"x86_64": "x64", "aarch64": "aa64"}
# Of an os-release file, in the order in which they count.
_VERSIONS: Final = ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
# A sign that is escaped, a set of signs, or one sign; a set that does not end is none of these.
_PATTERN_PART: Final = re.compile(r"\\.|\[[^\\][^]\\]*\]|[^\\[]", re.DOTALL)
_PATTERN_SIGNS: Final = frozenset("*?[\\")
# Of several `options` lines all count; of any other key the last.
_MANY: Final = frozenset({"options", "initrd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One entry with what decides its place."""

    entry: Entry
    # The file that makes it, as the host names it.
    file: str
    sort_key: str = ""
    machine_id: str = ""
    version: str = ""
    # Boots that are left and that were; None where they are not counted.
    tries_left: int | None = None
    tries_done: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether it was tried as often as it may be and never came up."""
        return self.tries_left == 0


def offers(host: Host, partitions: Sequence[str]) -> list[Offer]:
    """Return what these partitions offer, in the order of the menu. Raises BrokenHost for what cannot be read."""
    found = [one for place in partitions for one in (*_of_files(host, place), *_of_images(host, place))]
    # As in boot.c, what counts least sorted first: the newest above, and below what was tried too often.
    found.sort(key=lambda one: (-(one.tries_left or 0), one.tries_done))
    found.sort(key=lambda one: version_key(one.entry.id.lower()), reverse=True)
    found.sort(key=lambda one: version_key(one.version if one.sort_key else ""), reverse=True)
    found.sort(key=lambda one: (one.is_exhausted, not one.sort_key, one.sort_key, one.machine_id * bool(one.sort_key)))
    return found


def chosen(found: Iterable[Offer], pattern: str) -> Offer | None:
    """Return the first that systemd-boot takes for a name, which may be a pattern; None when there is none."""
    wanted = _matching(pattern.lower())
    return next((one for one in found if pattern and wanted.fullmatch(one.entry.id.lower())), None)


def is_pattern(name: str) -> bool:
    """Whether a name may stand for more than one entry, or for what was booted last."""
    return not _PATTERN_SIGNS.isdisjoint(name) or name.startswith("@")


def _matching(pattern: str) -> re.Pattern[str]:
    """Return a pattern as efi-string.c takes it: `[!a]` is no negation there, and a broken one matches nothing."""
    parts, rest = [], pattern
    while rest:
        if (found := _PATTERN_PART.match(rest)) is None:
            return re.compile(r"(?!)")
        sign = found[0]
        if sign in ("*", "?"):
            parts.append(".*" if sign == "*" else ".")
        elif sign.startswith("[") and len(sign) > 1:
            parts.append("[" + re.sub(r"([!^\[\]&|~])", r"\\\1", sign[1:-1]) + "]")
        else:
            parts.append(re.escape(sign.removeprefix("\\")))
        rest = rest[len(sign) :]
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        return re.compile(r"(?!)")


def settings(text: str) -> dict[str, list[str]]:
    """Return the values by key of a file of systemd-boot's, as boot.c reads lines."""
    found: dict[str, list[str]] = {}
    for line in re.split(r"[\r\n]", text):
        words = line.strip(" \t")
        key, separator, value = words.replace("\t", " ").partition(" ")
        if not separator or words.startswith("#"):
            continue
        value = words[len(key) :].strip(" \t")
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if key in _MANY:
            found.setdefault(key, []).append(value)
        else:
            found[key] = [value]
    return found


def _listed(host: Host, folder: str, ending: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(host.path(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise BrokenHost(f"{folder} cannot be read: {error.strerror}") from error
    for name in names:
        hidden = name.startswith(".") or name.lower().startswith("auto-")
        if name.lower().endswith(ending) and not hidden and host.path(f"{folder}/{name}").is_file():
            yield name


def _counted(name: str) -> tuple[str, int | None, int]:
    """Return an entry's id from its file's name, and its counters."""
    stem, ending = name[: name.rindex(".")], name[name.rindex(".") :]
    found = _COUNTER.search(stem)
    if found is None:
        return name, None, 0
    return stem[: found.start()] + ending, int(found[1]), int(found[2] or "0")


def _of_files(host: Host, place: str) -> Iterator[Offer]:
    folder = f"{place}/loader/entries"
    for name in _listed(host, folder, ".conf"):
        said = settings(host.text(f"{folder}/{name}") or "")
        one = {key: values[-1] for key, values in said.items()}
        machine = os.uname().machine
        if one.get("architecture", "").lower() not in ("", _ARCHITECTURES.get(machine, machine)):
            continue
        program = one.get("linux") or one.get("uki") or one.get("efi") or ""
        # What is not there systemd-boot leaves out; what comes by the network is nothing for a trial.
        if not program or not host.path(_placed(place, program)).is_file():
            continue
        entry_id, left, done = _counted(name)
        release, arguments = _of_program(host, place, one), tuple(" ".join(said.get("options", [])).split())
        if "linux" not in one and (unified := read_unified(host.path(_placed(place, program)))) is not None:
            release, arguments = unified.release, arguments or unified.arguments
        loaded = [program, *said.get("initrd", []), *([one["devicetree"]] if "devicetree" in one else [])]
        yield Offer(
            entry=Entry(
                id=entry_id,
                title=one.get("title", entry_id),
                release=release,
                arguments=arguments,
                files=tuple(_placed(place, path) for path in loaded),
                recovery=is_single_user(arguments),
            ),
            file=f"{folder}/{name}",
            sort_key=one.get("sort-key", ""),
            machine_id=one.get("machine-id", ""),
            version=one.get("version", ""),
            tries_left=left,
            tries_done=done,
        )


def _placed(place: str, path: str) -> str:
    return f"{place.rstrip('/')}/{path.replace(chr(92), '/').lstrip('/')}"


def _of_program(host: Host, place: str, said: dict[str, str]) -> str:
    """Return the release of a `linux` entry: as it says, as its path says, or as the kernel itself does."""
    if "linux" not in said:
        return ""
    if _RELEASE.match(said.get("version", "")):
        return said["version"]
    path = PurePosixPath("/", said["linux"].replace("\\", "/")).as_posix()
    if found := _IN_PATH.search(path):
        return found[1]
    return release_of(host.path(_placed(place, said["linux"])))


def _of_images(host: Host, place: str) -> Iterator[Offer]:
    folder = f"{place}/EFI/Linux"
    for name in _listed(host, folder, ".efi"):
        try:
            unified = read_unified(host.path(f"{folder}/{name}"))
        except OSError as error:
            raise BrokenHost(f"{folder}/{name} cannot be read: {error.strerror}") from error
        if unified is None:
            continue
        entry_id, left, done = _counted(name)
        system = dict(line.partition("=")[::2] for line in unified.os_release.splitlines())
        told = {key: value.strip("\"'") for key, value in system.items() if value}
        title = next((told[key] for key in ("PRETTY_NAME", "IMAGE_ID", "NAME", "ID") if key in told), "")
        if not title:
            continue
        yield Offer(
            entry=Entry(
                id=entry_id,
                title=title,
                release=unified.release,
                arguments=unified.arguments,
                files=(f"{folder}/{name}",),
                recovery=is_single_user(unified.arguments),
            ),
            file=f"{folder}/{name}",
            sort_key=told.get("IMAGE_ID") or told.get("ID", ""),
            version=next((told[key] for key in _VERSIONS if key in told), ""),
            tries_left=left,
            tries_done=done,
        )
