"""docs/architecture.md: the rooms and who stands on whom, drawn from the import contracts and the packages' docstrings.

`make docs` writes it between the marks of the page; the walks around it are written by hand.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
MARKS = ("<!-- make docs: begin -->", "<!-- make docs: end -->")


def layers() -> list[tuple[str, list[list[str]]]]:
    """Return the contracts that stack rooms: where they hold, and their layers from top to bottom."""
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = []
    for contract in document["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            stacked = [[name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]]
            found.append((contract.get("containers", [""])[0], stacked))
    return found


def sentence(package: str) -> str:
    """Return the first sentence of a package's or a module's docstring."""
    path = ROOT / package.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return told.partition("\n")[0]


def drawn() -> str:
    """Return the part of the page between the marks."""
    return "\n".join(_parts())


def _parts() -> Iterator[str]:
    for container, stacked in layers():
        yield from ("", f"### {container or 'The whole'}", "", "```mermaid", "flowchart TD")
        for number, layer in enumerate(stacked):
            names = [f'{name.replace(".", "_")}["{name.removeprefix("controller.")}"]' for name in layer]
            yield f"  subgraph s{number}[ ]"
            yield from (f"    {name}" for name in names)
            yield "  end"
        yield from (f"  s{number} --> s{number + 1}" for number in range(len(stacked) - 1))
        yield from ("```", "", "| Room | What may live there |", "|---|---|")
        for name in (name for layer in stacked for name in layer):
            full = f"{container}.{name}" if container else name
            yield f"| [{name}](../{_where(full)}) | {sentence(full)} |"


def _where(dotted: str) -> str:
    path = dotted.replace(".", "/")
    return path if (ROOT / path).is_dir() else f"{path}.py"


def page(text: str) -> str:
    """Return the page with its drawn part made anew."""
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    return f"{before}{MARKS[0]}\n{drawn()}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
