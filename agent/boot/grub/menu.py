"""A generated grub.cfg: its entries, and what it makes of the environment.

Ids are taken from the file and never built: GRUB_DISABLE_SUBMENU and distributions change them.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from agent.boot.values import Entry, is_single_user

_HEAD = re.compile(r"(menuentry|submenu)\s")
_NUMBER = re.compile(r"\d+")
_IMAGE = re.compile(r"/(?:vmlinuz|vmlinux|kernel|Image)-([0-9A-Za-z.+~_-]{1,64})$")
_TIMEOUT = re.compile(r"^set timeout=(-?\d+)$", re.MULTILINE)
_SETS_DEFAULT = re.compile(r'(?:set )?default="?([^"]*?)"?$')
_TRIES_TWICE = re.compile(r"^[ \t]*initrdfail[ \t]*$", re.MULTILINE)
_ASKED = re.compile(r"^[ \t]*menuentry (?!.*--unrestricted)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """What the configuration says."""

    entries: tuple[Entry, ...]
    # Positions in the menu -> id: GRUB takes numbers too.
    positions: dict[str, str]
    # Id -> title, submenus included.
    titles: dict[str, str]
    # What boots when nothing was armed: an entry's name, or "${saved_entry}".
    default: str
    # Whether `next_entry` of the environment boots once, and is cleared before.
    boots_once: bool
    # Seconds that the menu waits: as usual, and after a boot that did not end well. Negative: for ever.
    waits_s: tuple[int, ...]
    # Whether an entry boots a second time when its first try does not come up, as with GRUB_FORCE_PARTUUID on Ubuntu.
    tries_twice: bool
    # Whether somebody must give a password before an entry boots.
    asks: bool
    # Whether a name is looked for among the ids before it is taken for a position, and a position has digits only.
    ids_first: bool = False

    @property
    def is_saved(self) -> bool:
        """Whether the environment says what boots by default."""
        return self.default == "${saved_entry}"

    def resolved(self, name: str) -> str:
        """Return the id of the entry that GRUB boots for this name; empty when there is none.

        As in normal/menu.c: a number, or whatever begins with one, is a position; anything else an id or a title.
        """
        path = ""
        for part in name.split(">") if name else ["0"]:
            named = next((one for one in self._below(path) if part in (one.rpartition(">")[2], self.titles[one])), "")
            number = _NUMBER.fullmatch(part) if self.ids_first else _NUMBER.match(part)
            if number and not (self.ids_first and named):
                found = self.positions.get(f"{path}>{number[0]}" if path else number[0], "")
            else:
                found = named
            if not found:
                return ""
            path = found
        return path if any(one.id == path for one in self.entries) else self._first_below(path)

    def _below(self, path: str) -> Iterator[str]:
        prefix = f"{path}>" if path else ""
        for one in self.positions.values():
            if one.startswith(prefix) and ">" not in one[len(prefix) :]:
                yield one

    def _first_below(self, path: str) -> str:
        """A submenu boots its own first entry."""
        return next((one.id for one in self.entries if one.id.startswith(f"{path}>")), "")


def parse_menu(text: str) -> Menu:
    """Return what a generated configuration says; of what it does not understand it takes no entry."""
    entries: list[Entry] = []
    positions: dict[str, str] = {}
    titles: dict[str, str] = {}
    # Of the submenus around, the menu itself first: id, and how many entries it has so far.
    around: list[tuple[str, int]] = [("", 0)]
    blocks: list[str] = []
    head = ""
    body: list[str] = []
    for line in text.splitlines():
        words = line.strip()
        if _HEAD.match(words) and words.endswith("{"):
            kind = words.split(None, 1)[0]
            entry_id, title = _named(words)
            above, count = around.pop()
            around.append((above, count + 1))
            own_id = f"{above}>{entry_id}" if above else entry_id
            positions[f"{above}>{count}" if above else str(count)] = own_id
            titles[own_id] = title
            blocks.append(kind)
            if kind == "submenu":
                around.append((own_id, 0))
            else:
                head, body = own_id, []
        elif words.endswith("{"):
            blocks.append("")
        elif words == "}" and blocks:
            kind = blocks.pop()
            if kind == "submenu":
                around.pop()
            elif kind == "menuentry" and head:
                entries.append(_entry(head, titles[head], body))
                head = ""
        elif head:
            body.append(words)
    own = _outside(text)
    return Menu(
        entries=tuple(entries),
        positions=positions,
        titles=titles,
        default=_default(own),
        boots_once=_boots_once(text, own),
        waits_s=tuple(int(one) for one in _TIMEOUT.findall("\n".join(own))),
        tries_twice=_TRIES_TWICE.search(text) is not None,
        asks="set superusers=" in text and _ASKED.search(text) is not None,
    )


def _named(head: str) -> tuple[str, str]:
    """Return an entry's id and title from its first line; without an id the title serves as one."""
    try:
        words = shlex.split(head.removesuffix("{"))
    except ValueError:
        words = [head, head]
    title = words[1] if len(words) > 1 else ""
    for option in ("$menuentry_id_option", "--id"):
        if option in words[:-1]:
            return words[words.index(option) + 1], title
    return title, title


def _entry(entry_id: str, title: str, body: list[str]) -> Entry:
    commands = [line.split() for line in body]
    linux = next((words[1:] for words in commands if words and words[0] in ("linux", "linuxefi", "linux16")), [])
    initrd = next((words[1:] for words in commands if words and words[0] in ("initrd", "initrdefi", "initrd16")), [])
    image = _IMAGE.search(linux[0]) if linux else None
    arguments = tuple(linux[1:])
    # Whether /boot is a file system of its own or not, the last part of a path is the same.
    return Entry(
        id=entry_id,
        title=title,
        release=image[1] if image else "",
        arguments=arguments,
        files=tuple("/boot/" + word.rpartition("/")[2] for word in (*linux[:1], *initrd)),
        recovery=is_single_user(arguments),
    )


def _outside(text: str) -> list[str]:
    """Return the lines that are of no entry, stripped, in their order."""
    lines, depth = [], 0
    for line in text.splitlines():
        words = line.strip()
        if depth or (_HEAD.match(words) and words.endswith("{")):
            depth += words.endswith("{") - (words == "}")
        else:
            lines.append(words)
    return lines


def _default(lines: list[str]) -> str:
    """Return what is the default when nothing is armed: the last that is said counts, wherever it stands."""
    found = [match[1] for line in lines if (match := _SETS_DEFAULT.match(line))]
    usual = [one for one in found if one != "${next_entry}"]
    return usual[-1] if usual else "0"


def _boots_once(text: str, lines: list[str]) -> bool:
    """Whether the header looks at next_entry and clears it, and nothing after it says otherwise."""
    header = text.partition("\nmenuentry ")[0]
    said = sum(_SETS_DEFAULT.match(line) is not None for line in lines)
    of_header = sum(_SETS_DEFAULT.match(line.strip()) is not None for line in header.splitlines())
    return 'set default="${next_entry}"' in header and "save_env next_entry" in header and said == of_header
