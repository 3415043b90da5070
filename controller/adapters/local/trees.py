"""Trees of files that others made, an unpacked package or a modules directory: no link in them leads out of them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from controller.adapters.local.named_files import kind_of, shown
from controller.domain.errors import InvalidInput

# A kernel with every driver has some 10 000 modules; with debugging symbols they are some GiB.
MOST_FILES: Final = 200_000
MOST_BYTES: Final = 8 << 30
MOST_DEPTH: Final = 64
# As the kernel itself allows on the way to one file.
_MOST_LINKS: Final = 40


def locate(tree: Path, name: str) -> Path:
    """Return where `name` really is below `tree`, which need not be there.

    Links mean what they mean where the tree is the whole file system: absolute ones start at its top, and `..` ends
    there. Raises InvalidInput for links that go round in circles.
    """
    found: list[str] = []
    waiting = list(reversed(PurePosixPath(name).parts))
    links = 0
    while waiting:
        part = waiting.pop()
        if part in ("/", "//"):
            found.clear()
        elif part == "..":
            del found[-1:]
        else:
            try:
                target = os.readlink(os.path.join(tree, *found, part))
            except OSError:
                # No link, or nothing at all.
                found.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise InvalidInput(f"{shown(tree)}: {shown(name)}: its links go round in circles")
            waiting.extend(reversed(PurePosixPath(target).parts))
    return tree.joinpath(*found)


def is_file(tree: Path, name: str) -> bool:
    """Tell whether `name` is a regular file of the tree."""
    try:
        return stat.S_ISREG(os.lstat(locate(tree, name)).st_mode)
    except (OSError, InvalidInput):
        return False


def entries(tree: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the regular files and links of a tree: a folder's own, by name, then those of its folders.

    Raises InvalidInput for what is neither file, folder nor link, and for a tree that is too large or too deep.
    """
    waiting = [(os.fspath(tree), 0)]
    count, size_bytes = 0, 0
    while waiting:
        folder, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise InvalidInput(f"{shown(tree)}: has folders more than {MOST_DEPTH} deep, the most that is read")
        with os.scandir(folder) as listing:
            content = []
            for entry in listing:
                count += 1
                if count > MOST_FILES:
                    raise InvalidInput(f"{shown(tree)}: has more than {MOST_FILES} files, the most that is read")
                content.append(entry)
        content.sort(key=lambda entry: entry.name)
        waiting.extend((entry.path, depth + 1) for entry in reversed(content) if entry.is_dir(follow_symlinks=False))
        for entry in content:
            if entry.is_dir(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise InvalidInput(f"{shown(entry.path)}: is {kind_of(status.st_mode)}; only files belong there")
            size_bytes += status.st_size
            if size_bytes > MOST_BYTES:
                raise InvalidInput(f"{shown(tree)}: holds more than {MOST_BYTES >> 30} GiB, the most that is read")
            yield entry
