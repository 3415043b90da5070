"""docs/limits.md names the limits that hold."""

import re
from pathlib import Path

import pytest

from controller.domain import bounds

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text()
_LIMITS = {name: value for name, value in vars(bounds).items() if name[0].isupper() and isinstance(value, int)}


@pytest.mark.parametrize("name", _LIMITS)
def test_every_limit_stands_on_the_page(name: str) -> None:
    assert re.search(rf"(?<![0-9]){_LIMITS[name]}(?![0-9])", _PAGE), f"{name} is {_LIMITS[name]}"
