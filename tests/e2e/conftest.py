"""Fixtures of the tests on real VMs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_fleet import RealFleet, real_fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RealFleet]:
    """A controller and one x86_64 guest on the old kernel, fresh for every test."""
    with real_fleet(tmp_path) as started:
        yield started
