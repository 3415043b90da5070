"""Go benchmark output, as `go test -bench` writes it and benchstat reads it, as lines of a samples file.

Source: the Go benchmark data format, golang.org/design/14313-benchmark-format: lines `BenchmarkName-8 1000 123 ns/op …`
with any number of value–unit pairs, configuration lines `key: value`, which hold for what follows, and lines
`Unit hits/op better=higher`, which hold for the whole file.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from controller.domain.errors import InvalidInput
from controller.domain.printable import printable
from controller.domain.samples.document import MAX_NAME
from controller.words import names_text

# What a reader of the samples calls the one machine that a benchmark's output is from.
HOST: Final = "benchmark"
_RESULT: Final = re.compile(r"(Benchmark\S*)[ \t]+([1-9]\d*)[ \t]+(\S.*)")
# `go test` writes the name first and the numbers when it has them; what is printed in between tears the line in two.
_BEGINNING: Final = re.compile(r"Benchmark[^\sa-z]\S*[ \t]+\S.*")
_ENDING: Final = re.compile(r"[1-9]\d*[ \t]+[-+.\deE]+[ \t]+[^\s\d]\S*/\S+.*")
# Only at the beginning of a line: what a benchmark logs is indented, and may begin with "file.go:12: ".
_CONFIGURATION: Final = re.compile(r"([^\W\d_A-Z][^\s:A-Z]*):(?:[ \t]+(.*))?")
_UNIT: Final = re.compile(r"Unit[ \t]+(\S+)[ \t]+(\S.*)")
_NUMBER: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
# Configuration that names what may be compared.
_STRATUM_KEYS: Final = ("goos", "goarch", "cpu")
# What `go test` itself writes, and what other tools call the same.
_KNOWN: Final[Mapping[str, str]] = {
    "sec/op": "low",
    "B/op": "low",
    "allocs/op": "low",
    "B/s": "high",
}
_SAME: Final[Mapping[str, str]] = {"ns": "sec", "MB": "B"}
# By what a value is divided and multiplied on the way there.
_SCALES: Final[Mapping[str, tuple[float, float]]] = {"ns": (1e9, 1.0), "MB": (1.0, 1e6)}
# Units of which it is guessed that more is better; of all others that less is.
_RATES: Final = ("/s", "/sec", "op/s")
_BETTER: Final[Mapping[str, str]] = {"higher": "high", "lower": "low"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Samples, and what the plan that fits them says."""

    samples: tuple[Mapping[str, Any], ...]
    # metric -> unit.
    metrics: Mapping[str, str]
    # unit -> "high" or "low": what the files say, else what is known or guessed of it.
    better: Mapping[str, str]
    # Units of which nobody says which direction is better.
    guessed: tuple[str, ...]
    # Metrics with a value of zero, and those with one below, which have no ratio.
    left_out: tuple[str, ...]
    negative: tuple[str, ...]
    # Sentences about what the two files do not share.
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """One line with a result, and the configuration that holds for it."""

    place: str
    benchmark: str
    configuration: Mapping[str, str]
    pairs: tuple[tuple[float, str], ...]


@dataclass(slots=True, kw_only=True)
class _File:
    """What one file holds."""

    name: str
    position: str
    results: list[_Result] = field(default_factory=list)
    # unit -> its direction, and the line that says so.
    better: dict[str, tuple[str, str]] = field(default_factory=dict)
    # Where lines stand that begin or end like a result and are none.
    beginnings: list[str] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)

    def values(self, key: str) -> set[str]:
        """Return what a configuration key is set to; an empty text where it is not."""
        return {result.configuration.get(key, "") for result in self.results}


def read_benchmarks(old: Iterable[str], new: Iterable[str], names: tuple[str, str]) -> Imported:
    """Return the samples of two files: `old` becomes position first, `new` second.

    Configuration that varies within a file, as the package does, tells benchmarks of one name apart. Metrics that are
    zero or less somewhere are left out by name: they have no ratio. Raises InvalidInput with file and line for what
    cannot be read or contradicts itself, and for a file without results.
    """
    files = (_read(old, names[0], "first"), _read(new, names[1], "second"))
    _unify_units(files)
    keys = sorted({key for file in files for result in file.results for key in result.configuration})
    keys = [key for key in keys if key not in _STRATUM_KEYS]
    apart = [key for key in keys if any(len(file.values(key)) > 1 for file in files)]
    samples = [sample for file in files for sample in _samples(file, apart)]
    metrics = {sample["metric"]: sample["unit"] for sample in samples}
    negative = {sample["metric"] for sample in samples if sample["value"] < 0}
    zero = {sample["metric"] for sample in samples if sample["value"] == 0} - negative
    kept = {name: unit for name, unit in sorted(metrics.items()) if name not in zero | negative}
    said = _said(files)
    better = {unit: said.get(_tidied(unit)) or _KNOWN.get(_tidied(unit)) for unit in sorted(set(kept.values()))}
    return Imported(
        samples=tuple(sample for sample in samples if sample["metric"] in kept),
        metrics=kept,
        better={unit: word or ("high" if unit.endswith(_RATES) else "low") for unit, word in better.items()},
        guessed=tuple(unit for unit, word in better.items() if word is None),
        left_out=tuple(sorted(zero)),
        negative=tuple(sorted(negative)),
        remarks=tuple(_remarks(files, keys, apart, samples)),
    )


def plan_of(imported: Imported, margin: str) -> Mapping[str, Any]:
    """Return a plan for the samples as they are: plain before and after, which is never decided."""
    return {
        "design": "before_after",
        "metrics": {
            name: {"unit": unit, "better": imported.better[unit], "margin": margin}
            for name, unit in imported.metrics.items()
        },
    }


def _read(lines: Iterable[str], name: str, position: str) -> _File:
    file = _File(name=name, position=position)
    configuration: Mapping[str, str] = {}
    for number, line in enumerate(lines, start=1):
        # Files from Windows begin with a mark of their own, also where several were joined.
        text, place = line.removeprefix("\ufeff").rstrip(), f"{name}:{number}"
        if match := _CONFIGURATION.fullmatch(text):
            # Without a value the key is not set any more.
            configuration = {**configuration, match[1]: printable((match[2] or "").strip(), MAX_NAME)}
        elif match := _UNIT.fullmatch(text):
            _note_direction(file, match[1], match[2], place)
        elif result := _RESULT.fullmatch(text.strip()):
            file.results.append(
                _Result(
                    place=place,
                    benchmark=result[1].removeprefix("Benchmark") or "Benchmark",
                    configuration=configuration,
                    pairs=tuple(_pairs(result[3], place)),
                )
            )
        elif _BEGINNING.fullmatch(text.strip()):
            file.beginnings.append(place)
        elif _ENDING.fullmatch(text.strip()):
            file.endings.append(place)
    if not file.results:
        raise InvalidInput(f"{name}:1: holds no benchmark result (BenchmarkName iterations value unit)")
    return file


def _note_direction(file: _File, unit: str, words: str, place: str) -> None:
    for word in words.split():
        key, equals, value = word.partition("=")
        if key != "better":
            continue
        if not equals or value not in _BETTER:
            raise InvalidInput(
                f"{place}: of {printable(unit, 80)} it says {printable(word, 80)!r}; "
                "write better=higher or better=lower, without spaces"
            )
        before = file.better.setdefault(_tidied(unit), (_BETTER[value], place))
        _check_same(unit, before, (_BETTER[value], place))


def _said(files: Sequence[_File]) -> Mapping[str, str]:
    """Return unit -> direction as the files say it. Raises InvalidInput where one contradicts the other."""
    found: dict[str, tuple[str, str]] = {}
    for file in files:
        for unit, said in file.better.items():
            _check_same(unit, found.setdefault(unit, said), said)
    return {unit: better for unit, (better, _) in found.items()}


def _check_same(unit: str, one: tuple[str, str], other: tuple[str, str]) -> None:
    if one[0] != other[0]:
        raise InvalidInput(
            f"{other[1]}: says the opposite of {one[1]} about {printable(unit, 80)}: is higher or lower better? "
            "Correct one of them"
        )


def _tidied(unit: str) -> str:
    """Return what benchstat calls a unit: ns/op and sec/op, MB/s and B/s are one."""
    amount, slash, per = unit.partition("/")
    return "-".join(_SAME.get(part, part) for part in amount.split("-")) + slash + per


def _unify_units(files: Sequence[_File]) -> None:
    """Put what benchstat takes for one unit into that one, where the files write it in several ways."""
    written: dict[str, set[str]] = defaultdict(set)
    apart: set[str] = set()
    for result in (result for file in files for result in file.results):
        units = [unit for _, unit in result.pairs]
        for unit in units:
            written[_tidied(unit)].add(unit)
        # Told twice in one line; neither stands for the other.
        tidied = [_tidied(unit) for unit in dict.fromkeys(units)]
        apart |= {unit for unit in tidied if tidied.count(unit) > 1}
    several = {unit for unit, ways in written.items() if len(ways) > 1} - apart
    for file in files if several else ():
        file.results = [
            replace(
                result,
                pairs=tuple(_in_one_unit(*pair) if _tidied(pair[1]) in several else pair for pair in result.pairs),
            )
            for result in file.results
        ]


def _in_one_unit(value: float, unit: str) -> tuple[float, str]:
    for part in unit.partition("/")[0].split("-"):
        divisor, factor = _SCALES.get(part, (1.0, 1.0))
        value = value / divisor * factor
    return value, _tidied(unit)


def _samples(file: _File, apart: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    count: dict[tuple[str, str], int] = defaultdict(int)
    for result in file.results:
        stratum = "/".join(filter(None, (result.configuration.get(key) for key in _STRATUM_KEYS))) or "all"
        label = _label(result, apart)
        count[stratum, label] += 1
        for value, unit in result.pairs:
            metric = f"{label} {unit}"
            if len(metric) > MAX_NAME:
                told = printable(metric, 80)
                raise InvalidInput(f"{result.place}: the name of a metric has at most {MAX_NAME} characters: {told}")
            yield {
                "host": HOST if stratum == "all" else f"{HOST} {stratum}"[:MAX_NAME],
                "stratum": stratum,
                "position": file.position,
                "run": count[stratum, label],
                "metric": metric,
                "value": value,
                "unit": unit,
            }


def _label(result: _Result, apart: Sequence[str]) -> str:
    set_keys = (key for key in apart if result.configuration.get(key))
    return " ".join((result.benchmark, *(f"{key}={result.configuration[key]}" for key in set_keys)))


def _remarks(
    files: Sequence[_File], keys: Sequence[str], apart: Sequence[str], samples: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    for file in files:
        torn = max(file.beginnings, file.endings, key=len)
        if torn:
            lines = (
                "1 line begins like a result and is"
                if len(torn) == 1
                else f"{len(torn)} lines begin like results and are"
            )
            yield (
                f"{lines} none, the first at {torn[0]}: output of the benchmark's own tears a result in two. Let it "
                "print nothing, or to a file."
            )
    if apart:
        yield f"What differs in {names_text(apart)} is told apart, by a metric of its own."
    old, new = files
    for key in (*_STRATUM_KEYS, *(key for key in keys if key not in apart)):
        before, after = old.values(key), new.values(key)
        if len(before) == len(after) == 1 and before != after:
            which = "nothing of one is compared with the other" if key in _STRATUM_KEYS else "they are compared"
            told = (f"{file.name} has {next(iter(file.values(key))) or 'none'}" for file in files)
            yield f"The files differ in {key} ({' and '.join(told)}): {which}."
    for one, other in (files, files[::-1]):
        here, there = (
            {sample["metric"] for sample in samples if sample["position"] == file.position} for file in (one, other)
        )
        if only := sorted(here - there):
            yield f"Only in {one.name}, so that there is nothing to compare: {names_text(only)}."


def _pairs(text: str, place: str) -> Iterator[tuple[float, str]]:
    words = text.split()
    if len(words) % 2:
        raise InvalidInput(f"{place}: a value without a unit, or a unit without a value: {words[-1]!r}")
    for value, unit in zip(words[::2], words[1::2], strict=True):
        if not _NUMBER.fullmatch(value):
            raise InvalidInput(f"{place}: {value!r} is not a number")
        number = float(value)
        if not math.isfinite(number):
            raise InvalidInput(f"{place}: {value!r} is too big")
        yield number, unit
