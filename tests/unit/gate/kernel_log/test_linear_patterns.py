"""Every pattern takes time in proportion to its text, tried with a megabyte that each kind of pattern likes least."""

import ast
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from project import ROOT

from controller.gate.kernel_log import _TABLE, classify

_MEGABYTE = 1 << 20
# Of processor time, for one pattern and all texts: a linear pattern takes a thousandth, a quadratic one hours.
_LIMIT_S = 30
# What a text is made of, again and again: the beginnings of what patterns look for.
_PIECES = (
    *("a", "1", " ", "[", "(", "<", "\t", "/", "-", "`", "'", "\n", "²", "\x1b[0", "1.1", "a: ", "a/", "1:", "=a "),
    *("a.c:1 at ", "mm/a.c ", "for more than 1 ", "not syncing: ", "a+0x1/0x1 ", "1-", ".a", "[T1]", "input '"),
)
# What stands before them, so that the pattern begins at all.
_HEADS = ("", "WARNING: mm/x.c:1 ", "INFO: task ", "Kernel panic - not syncing", "[    1.0] ")
# Of the texts of an expression, which has a thousand characters at most.
_OF_SHORT_TEXTS = frozenset({"_MATCHES", "_TEXTS_COMPARED"})
_METHODS = frozenset({"match", "search", "fullmatch", "sub", "finditer", "findall", "split"})

_TRIAL = """
import re, sys
patterns, heads = eval(sys.stdin.read())
for where, pattern, flags, methods in patterns:
    print(where, flush=True)
    compiled = re.compile(pattern, flags)
    for head in heads:
        for piece in {pieces!r}:
            text = (head + piece * ({size} // len(piece) + 1))[:{size}] + "\\0"
            text, nothing = (text.encode(), b"") if isinstance(pattern, bytes) else (text, "")
            for method in methods:
                found = getattr(compiled, method)(*((nothing, text) if method == "sub" else (text,)))
                if method == "finditer":
                    sum(1 for _ in found)
"""
_Pattern = tuple[str, str | bytes, int, tuple[str, ...]]


def _patterns(path: Path) -> Iterator[_Pattern]:
    """Yield where every pattern of a module stands, its text, its flags, and the methods by which it is used."""
    tree = ast.parse(path.read_text())
    used: dict[str, set[str]] = {}
    names: dict[ast.AST | None, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in _METHODS:
            used.setdefault(node.value.id, set()).add(node.attr)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names[node.value] = ast.unparse(target)
    # A pattern in a tuple is used by the variable that goes through it.
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Name) and isinstance(node.target, ast.Name):
            for holder in [value for value, name in names.items() if name == node.iter.id]:
                names.update((one, node.target.id) for one in getattr(holder, "elts", ()))
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        if isinstance(node.args[0], ast.JoinedStr) and ast.unparse(node.func) == "re.compile" and node in names:
            # One that is made of parts is taken as it was made.
            whole = getattr(import_module(_module_name(path)), names[node], None)
            if isinstance(whole, re.Pattern) and names[node] not in _OF_SHORT_TEXTS:
                methods = used.get(names[node], {"match"})
                yield f"line {node.lineno}", whole.pattern, whole.flags & ~re.UNICODE, tuple(methods)
        if not isinstance(node.args[0], ast.Constant):
            continue
        module, _, method = ast.unparse(node.func).rpartition(".")
        if module == "re" and method in {"compile", *_METHODS}:
            flags = [ast.unparse(one) for one in node.args[1:] if ast.unparse(one).startswith("re.")]
            methods = used.get(names.get(node, ""), {"match"}) if method == "compile" else {method}
            named = {name for one in flags for name in re.findall(r"re\.(\w+)", one)}
            yield f"line {node.lineno}", node.args[0].value, sum(getattr(re, name) for name in named), tuple(methods)


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def _of_modules() -> dict[str, list[_Pattern]]:
    paths = sorted([*ROOT.glob("controller/**/*.py"), *ROOT.glob("agent/**/*.py")])
    found = {str(path.relative_to(ROOT)): list(_patterns(path)) for path in paths}
    return {name: patterns for name, patterns in found.items() if patterns}


def _tried(patterns: list[_Pattern], heads: tuple[str, ...]) -> None:
    limit = (_LIMIT_S, _LIMIT_S)
    done = subprocess.run(
        [sys.executable, "-c", _TRIAL.format(pieces=_PIECES, size=_MEGABYTE)],
        input=repr((patterns, heads)).encode(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limit),
        capture_output=True,
        timeout=20 * _LIMIT_S,
        check=False,
    )
    last = done.stdout.decode().rpartition("\n")[0].rpartition("\n")[2]
    assert done.returncode == 0, f"not linear, or not valid: the pattern of {last}: {done.stderr.decode()[-500:]}"


@pytest.mark.parametrize("name", _of_modules())
def test_the_patterns_of_a_module_are_linear(name: str) -> None:
    _tried(_of_modules()[name], ("",))


@pytest.mark.parametrize("head", _HEADS)
def test_the_rows_of_kernel_lines_are_linear(head: str) -> None:
    _tried([(row.kind, row.pattern.pattern, 0, ("match",)) for row in _TABLE], (head,))


@pytest.mark.parametrize("head", _HEADS)
@pytest.mark.parametrize("piece", ["a", "a+0x1/0x1 ", "[", "\x1b["])
def test_a_line_of_a_megabyte_is_classified(head: str, piece: str) -> None:
    line = head + piece * (_MEGABYTE // len(piece))
    assert all(len(found.line) < 5000 for found in classify([line, line]))
