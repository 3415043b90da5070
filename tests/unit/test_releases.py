"""The order of kernel releases, pair by pair and as an order."""

import itertools

import pytest

from controller.domain.releases import compared

# Oldest first; those of one line are not told apart.
ASCENDING = [
    ["5.14.0-362.8.1.el9_3.x86_64"],
    ["5.14.0-427.13.1.el9_4.x86_64"],
    ["6.1.0-9-amd64"],
    ["6.1.0-18-amd64", "6.1.0-18-arm64"],
    ["6.8.0-31-generic"],
    ["6.8.0-45-generic"],
    ["6.12.9"],
    ["6.12.48+deb13-amd64", "6.12.48", "6.12.48+deb13-cloud-amd64", "6.12.48-custom"],
    ["7.0.13+deb13-cloud-amd64"],
    ["7.1.0-rc2"],
    ["7.1.0-rc10-dirty"],
    ["7.1", "7.1.0", "7.1.0-next-tree"],
    ["7.1.13+deb13-arm64"],
]


def test_the_order() -> None:
    for older, newer in itertools.combinations(ASCENDING, 2):
        for one, other in itertools.product(older, newer):
            assert compared(one, other) == -1, (one, other)
            assert compared(other, one) == 1, (one, other)
    for same in ASCENDING:
        for one, other in itertools.product(same, repeat=2):
            assert compared(one, other) == 0, (one, other)


@pytest.mark.parametrize("odd", ["", "next", "7", "v7.1.13", "linux-7.1"])
def test_what_is_no_version_cannot_be_compared(odd: str) -> None:
    assert compared(odd, "7.1.13") is None
    assert compared("7.1.13", odd) is None
