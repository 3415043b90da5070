"""Entries of the Boot Loader Specification as GRUB takes them with its command `blscfg`.

Sources: Fedora's blscfg.c, and blsuki.c of GRUB 2.14.

Its generated grub.cfg has the header of others and no entries; beside it stand blocks that act on what the last boot
left in the environment, which are refused by what they act on.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agent.boot.grub.menu import Menu, parse_menu
from agent.boot.values import Entry, is_single_user

CALLS: Final = re.compile(r"^[ \t]*blscfg[ \t]*$", re.MULTILINE)
# Each does something only when boot_counter, menu_show_once or a password is set.
_CONDITIONAL: Final = re.compile(
    r"^### BEGIN /etc/grub\.d/(01_users|08_fallback_counting|12_menu_auto_hide|14_menu_show_once) ###$.*?^### END ",
    re.MULTILINE | re.DOTALL,
)
_FALLBACK: Final = re.compile(r'^[ \t]*set kernelopts="(.*)"$', re.MULTILINE)
_VARIABLE: Final = re.compile(r"(?<!\\)\$(\w+)")
_IMAGE: Final = re.compile(r"/(?:vmlinuz|vmlinux|kernel|Image)-([0-9A-Za-z.+~_-]{1,64})$|/([0-9][^/]{0,63})/linux$")
_SEGMENT: Final = re.compile(r"~|[0-9]+|[a-zA-Z]+")


def bls_menu(text: str, files: Mapping[str, str], environment: Mapping[str, str], *, ids_first: bool) -> Menu:
    """Return the menu of a grub.cfg that calls `blscfg`; `files` are the entries' texts by the names of their files.

    `ids_first` is whether this GRUB looks for a name among the ids before it takes it for a position, as Fedora's does.
    """
    rest = parse_menu(_CONDITIONAL.sub("### END ", text))
    fallback = _FALLBACK.search(text)
    variables = {"kernelopts": fallback[1] if fallback else "", **environment}
    names = sorted((name for name in files if name.endswith(".conf") and name[0] != "."), key=_order, reverse=True)
    made = [entry for name in names if (entry := _entry(name.removesuffix(".conf"), files[name], variables))]
    ids = [one.id for one in made] + [one for position, one in rest.positions.items() if ">" not in position]
    # Below a submenu, positions count from its own first entry.
    below = {position: one for position, one in rest.positions.items() if ">" in position}
    return replace(
        rest,
        entries=(*made, *rest.entries),
        positions={**{str(place): one for place, one in enumerate(ids)}, **below},
        titles={**rest.titles, **{one.id: one.title for one in made}},
        ids_first=ids_first,
    )


def _entry(entry_id: str, text: str, variables: Mapping[str, str]) -> Entry | None:
    said: dict[str, str] = {}
    initrds = []
    for line in text.splitlines():
        words = line.lstrip(" \t")
        if words.startswith("#"):
            continue
        key, _, value = words.replace("\t", " ").partition(" ")
        # What has no value ends the file, for GRUB.
        if not value.strip():
            break
        if key == "initrd":
            initrds += value.split()
        # Of what stands there twice GRUB takes the first.
        said.setdefault(key, value.strip())
    if "linux" not in said:
        return None
    options = said.get("options", variables.get("default_kernelopts", ""))
    arguments = tuple(_VARIABLE.sub(lambda found: variables.get(found[1], ""), options).split())
    # Variables such as $tuned_initrd are empty where nobody has set them.
    loaded = [_VARIABLE.sub(lambda found: variables.get(found[1], ""), one) for one in (said["linux"], *initrds)]
    image = _IMAGE.search(said["linux"])
    return Entry(
        id=entry_id,
        title=said.get("title", said["linux"]),
        release=(image[1] or image[2]) if image else "",
        arguments=arguments,
        files=tuple("/boot/" + one.removeprefix("/boot/").lstrip("/") for one in loaded if one),
        recovery=is_single_user(arguments) or "-0-rescue" in entry_id,
    )


def _order(name: str) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return what sorts a file's name: name, version and release, each as RPM compares them."""
    parts = name.removesuffix(".conf").rsplit("-", 2)
    return tuple((*(_segment(one) for one in _SEGMENT.findall(part)), (1, 0, "")) for part in parts)


def _segment(text: str) -> tuple[int, int, str]:
    if text == "~":
        return (0, 0, "")
    if text[0] in "0123456789":
        number = text.lstrip("0")
        return (3, len(number), number)
    return (2, 0, text)
