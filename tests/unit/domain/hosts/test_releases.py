"""The order of kernel releases, pair by pair and as an order."""

import itertools

import pytest

from controller.domain.hosts.releases import compared, upstream_version

# Oldest first; those of one line are of one version, and only the first two of each are known to be of one source.
ASCENDING = [
    ["5.14.0-362.8.1.el9_3.x86_64"],
    ["5.14.0-427.13.1.el9_4.x86_64"],
    ["6.1.0-9-amd64"],
    ["6.1.0-18-amd64", "6.1.0-18-arm64"],
    ["6.8.0-31-generic"],
    ["6.8.0-45-generic"],
    ["6.12.9"],
    ["6.12.48+deb13-amd64", "6.12.48+deb13-cloud-amd64", "6.12.48", "6.12.48-custom"],
    ["7.0.13+deb13-cloud-amd64"],
    ["7.1.0-rc2"],
    ["7.1-rc3-amd64", "7.1~rc3-arm64", "7.1.0-070100rc3-generic", "7.1.0-0.rc3.20261109git1a2b.28.fc45.x86_64"],
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
            is_one = one == other or {one, other} <= set(same[:2])
            assert compared(one, other) == (0 if is_one else None), (one, other)


@pytest.mark.parametrize("odd", ["", "next", "7", "v7.1.13", "linux-7.1"])
def test_what_is_no_version_cannot_be_compared(odd: str) -> None:
    assert compared(odd, "7.1.13") is None
    assert compared("7.1.13", odd) is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("6.12.1-arch1-1", "6.12.1-arch1-2"),
        ("6.12.1-arch1-2", "6.12.1-arch2-1"),
        ("6.12.9-arch1-1", "6.12.10-arch1-1"),
        ("6.12.1-zen1-1-zen", "6.12.1-zen1-2-zen"),
        ("6.13.0-061300rc7-generic", "6.13.0-061300-generic"),
        ("6.12.4-061204-generic", "6.12.5-061205-generic"),
        ("6.13.0-061300-generic", "6.13.1-061301-generic"),
        ("6.1.0-0.deb11.17-amd64", "6.1.0-0.deb11.21-cloud-amd64"),
        ("6.1.0-18-amd64", "6.1.0-44-cloud-amd64"),
        ("6.1.0-44-amd64", "6.6.1"),
        ("6.1.0-rc8", "6.1.0-44-amd64"),
        ("6.8.12-4-pve", "6.8.12-11-pve"),
        ("6.4.0-150600.21-default", "6.4.0-150600.23.47-default"),
        ("5.14.0-503.el9.x86_64", "5.14.0-503.11.1.el9_5.x86_64"),
        ("5.15.153.1-microsoft-standard-WSL2", "5.15.153.2-microsoft-standard-WSL2"),
        ("5.15.158.1-1.cm2", "5.15.158.2-1.cm2"),
        ("6.6.43.1-7.azl3", "6.6.43.1-8.azl3"),
        ("6.6.43.1-9.azl3", "6.6.43.1-10.azl3"),
        ("2.6.32.9", "2.6.32.71"),
        ("6.11.0-0.rc3.29.fc41.x86_64", "6.11.0-0.rc3.30.fc41.x86_64"),
        ("6.11.0-0.rc3.20240814git6b0f8db921ab.31.fc41.x86_64", "6.11.0-0.rc3.20240815git1fb918967b56.32.fc41.x86_64"),
        ("6.11.0-0.rc3.20240814git6b0f8db921ab.32.fc41.x86_64", "6.11.0-0.rc3.20240815git1fb918967b56.32.fc41.x86_64"),
        ("6.9.9-x64v3-xanmod1", "6.9.9-x64v3-xanmod2"),
        ("6.6.44-gentoo", "6.6.44-gentoo-r1"),
        ("6.6.44-gentoo-r1-x86_64", "6.6.44-gentoo-r10-x86_64"),
        ("6.6.44_1", "6.6.44_2"),
        ("6.10.0-rc1-next-20240729", "6.10.0-rc1-next-20240730"),
        ("6.6.9-rt19", "6.6.9-rt20"),
        ("6.10.2-cachyos1.fc40.x86_64", "6.10.2-cachyos2.fc40.x86_64"),
        ("7.1.0-rc3-00012-g0123456789ab", "7.1.0-rc3-00045-gba9876543210"),
        ("6.1.112-122.189.amzn2023.x86_64", "6.1.119-129.201.amzn2023.x86_64"),
    ],
)
def test_distributions_count_in_their_own_ways(older: str, newer: str) -> None:
    assert (compared(older, newer), compared(newer, older)) == (-1, 1)


@pytest.mark.parametrize(
    ("hidden", "other"),
    [
        ("6.1.0-44-amd64", "6.1.100"),
        ("6.1.0-44-amd64", "6.1.164-own"),
        ("6.8.0-45-generic", "6.8.12-061812-generic"),
        ("6.8.0-45-generic", "6.8.0-1021-aws"),
        ("5.14.0-503.11.1.el9_5.x86_64", "5.14.21"),
        ("6.4.0-150600.23.47-default", "6.4.16"),
        ("6.1.0-44-amd64", "6.1.0-1036-oem"),
    ],
)
def test_what_a_release_hides_is_not_guessed(hidden: str, other: str) -> None:
    assert (compared(hidden, other), compared(other, hidden)) == (None, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("6.12.48", "6.12.48-custom"),
        ("6.12.48-own", "6.12.48-custom"),
        ("6.12.48-zone1", "6.12.48-zone2"),
        ("6.12.9-1-pve", "6.12.9-2-own"),
        ("6.12.9-1-pve", "6.12.9"),
        ("6.6.9-rt19", "6.6.9"),
        ("6.9.9-x64v2-xanmod1", "6.9.9-x64v3-xanmod1"),
        ("6.6.8-200.fc38.x86_64", "6.6.8-200.fc39.x86_64"),
        ("6.10.0-rc1", "6.10.0-rc1-next-20240729"),
        ("7.1.0-rc3-00012-g0123456789ab", "7.1.0-rc3-00012-gba9876543210"),
        ("7.1.0-rc3-00012-g0123456789ab", "7.1.0-rc3"),
        ("6.12.48+deb12-amd64", "6.12.48+deb13-amd64"),
    ],
)
def test_kernels_of_one_version_that_nothing_orders_are_not_called_equal(one: str, other: str) -> None:
    told = {"told_of_one": "Debian 6.12.48-1", "told_of_other": "Debian 6.12.48-1"}
    assert (compared(one, other), compared(other, one), compared(one, other, **told)) == (None, None, None)
    assert compared(one, one) == 0


@pytest.mark.parametrize(
    ("release", "told", "upstream"),
    [
        ("6.1.0-44-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.164-1 (2026-02-09)", "6.1.164"),
        ("6.1.0-44-amd64", "Debian linux-image-6.1.0-44-amd64 6.1.164-1", "6.1.164"),
        ("6.11.0-1-amd64", "#1 SMP Debian 6.11~rc4-1 (2024-08-20)", "6.11-rc4"),
        ("6.8.0-45-generic", "#45-Ubuntu SMP PREEMPT_DYNAMIC Fri Aug 30 12:02:04 UTC 2024", ""),
        ("6.8.0-45-generic", "#45~22.04.1-Ubuntu SMP", ""),
        ("6.1.0-44-amd64", "#1 SMP Debian 6.12.164-1", ""),
        ("6.1.0-44-amd64", "", ""),
        ("6.8.12-4-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-4 (2024-11-06T15:04Z)", "6.8.12"),
        ("6.12.1-arch1-2", "#1 SMP PREEMPT_DYNAMIC", "6.12.1"),
        ("6.13.0-061300rc3-generic", "#202412152131 SMP", "6.13.0-rc3"),
        ("7.1", "", "7.1.0"),
        ("next", "Debian 6.1.164-1", ""),
    ],
)
def test_the_upstream_version_is_told_by_the_release_or_beside_it(release: str, told: str, upstream: str) -> None:
    assert upstream_version(release, told) == upstream


@pytest.mark.parametrize(("other", "order"), [("6.1.100", 1), ("6.1.164", None), ("6.1.200", -1)])
def test_what_is_told_beside_a_release_decides_where_it_hides(other: str, order: int | None) -> None:
    told = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.164-1 (2026-02-09)"
    assert compared("6.1.0-44-amd64", other, told) == order
    assert compared(other, "6.1.0-44-amd64", "", told) == (None if order is None else -order)
