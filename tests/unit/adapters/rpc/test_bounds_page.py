"""docs/limits.md names the limits that hold."""

import re

import pytest
from project import ROOT

from controller.domain import bounds

_PAGE = (ROOT / "docs" / "limits.md").read_text()
_LIMITS = {name: value for name, value in vars(bounds).items() if name[0].isupper() and isinstance(value, int)}


@pytest.mark.parametrize("name", _LIMITS)
def test_every_limit_stands_on_the_page(name: str) -> None:
    assert re.search(rf"(?<![0-9]){_LIMITS[name]}(?![0-9])", _PAGE), f"{name} is {_LIMITS[name]}"
