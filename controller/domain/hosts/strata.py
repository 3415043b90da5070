"""A stratum as a value with parts, and the one text that it is known by in plans, logs and reports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# What a text says for a label that hosts do not have.
NO_LABEL = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Hosts of one architecture and platform, and of the same values of the labels that the spec splits by."""

    architecture: str
    platform: str
    # (label, its value) in the spec's order; "?" where the hosts have no such label.
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """For example "arm64/vm/zone=a". Labels and values may hold the signs that stand between them."""
        return "/".join((self.architecture, self.platform, *(f"{key}={value}" for key, value in self.labels)))

    def where(self) -> str:
        """Return the expression that the hosts of this stratum match, whatever its labels hold."""
        if "/" in "".join((self.platform, *(value for _, value in self.labels))):
            # Such a text can be read in several ways; what decides is what a plan would write.
            told = "".join(f' + {_quoted(f"/{key}=")} + ({_has(key)} ? {_label(key)} : "?")' for key, _ in self.labels)
            return f"stratum{told} == {_quoted(self.text)}"
        return self._conditions(tuple(f'!({_has(key)} && {_label(key)} != "?")' for key, _ in self.labels))

    def former_where(self) -> str:
        """Return the expression as it was written before hosts whose label says "?" were thought of."""
        return self._conditions(tuple(f"!({_has(key)})" for key, _ in self.labels))

    def _conditions(self, absent: Sequence[str]) -> str:
        conditions = [f"stratum == {_quoted(f'{self.architecture}/{self.platform}')}"]
        for (key, value), without in zip(self.labels, absent, strict=True):
            told = f"{_has(key)} && {_label(key)} == {_quoted(value)}"
            conditions.append(without if value == NO_LABEL else told)
        return " && ".join(conditions)


def stratum_among(base: str, labels: Mapping[str, str], keys: Iterable[str]) -> Stratum:
    """Return the stratum of a host: `base` is "architecture/platform", `keys` are the labels that split it further."""
    architecture, _, platform = base.partition("/")
    told = tuple((key, labels.get(key, NO_LABEL)) for key in keys)
    return Stratum(architecture=architecture, platform=platform, labels=told)


def read_stratum(text: str, keys: Sequence[str] = ()) -> Stratum:
    """Return the stratum of a text. `keys` are the labels that its plan split by, in order.

    Without those that the text was written with, labels are told apart as well as can be.
    """
    base, labels = text, list[tuple[str, str]]()
    for key in reversed(keys):
        base, mark, value = base.rpartition(f"/{key}=")
        if not mark:
            return _guessed(text)
        labels.insert(0, (key, value))
    if not labels:
        return _guessed(text)
    architecture, _, platform = base.partition("/")
    return Stratum(architecture=architecture, platform=platform, labels=tuple(labels))


def _guessed(text: str) -> Stratum:
    """Read a text without its plan: what stands between a value and the next sign of equality belongs to a label."""
    architecture, _, rest = text.partition("/")
    platform, *parts = rest.split("/")
    labels: list[tuple[str, str]] = []
    waiting: list[str] = []
    for part in parts:
        waiting.append(part)
        if "=" in part:
            key, _, value = "/".join(waiting).partition("=")
            labels.append((key, value))
            waiting.clear()
    if waiting and labels:
        key, value = labels[-1]
        labels[-1] = key, "/".join((value, *waiting))
    elif waiting:
        platform = "/".join((platform, *waiting))
    return Stratum(architecture=architecture, platform=platform, labels=tuple(labels))


def _has(key: str) -> str:
    return f"{_quoted(key)} in labels"


def _label(key: str) -> str:
    return f"labels[{_quoted(key)}]"


def _quoted(text: str) -> str:
    """Return a literal of the expression language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in escaped) + '"'
