"""The structure sizes agree with what swapon was measured to cost on distribution kernels."""

import itertools

import pytest

from controller.gate.evidence.swap_formula import GENERATIONS, compare, expected_mib_per_tib, generation


# Used memory added by swapon of an idle 1 TiB device, in kB, measured in emulated machines with 4 KiB pages.
@pytest.mark.parametrize(
    ("release", "measured_kb"),
    [
        ("6.12.117+deb13-cloud-amd64", 831_108),
        ("6.12.117+deb13-cloud-arm64", 831_056),
        ("6.18.15+deb13-cloud-amd64", 839_100),
        ("6.19.14+deb13-cloud-amd64", 838_948),
        ("7.0.13+deb13-cloud-amd64", 839_204),
        ("7.0.13+deb13-cloud-arm64", 839_428),
        ("7.1.13+deb13-cloud-amd64", 580_644),
        ("7.1.13+deb13-cloud-arm64", 580_140),
        ("7.2.13+deb14-cloud-amd64", 24_832),
        ("7.3.4+deb13-cloud-amd64", 24_864),
    ],
)
def test_measured_costs_agree_with_the_structures(release: str, measured_kb: float) -> None:
    assert "they agree to" in compare(release, 4096, measured_kb / 1024)


@pytest.mark.parametrize(
    ("release", "page_size", "expected"),
    [
        ("6.12.1", 4096, 256 + 512 + 32 + 12),
        ("7.0.13", 4096, 256 + 512 + 32 + 16),
        ("7.1.13", 4096, 512 + 32 + 20),
        ("7.2.13", 4096, 24),
        # 64 KiB pages: 16 times fewer slots, and 16 times fewer again per cluster.
        ("7.0.13", 65536, (256 + 512 + 32) / 16 + 16 / 256),
    ],
)
def test_expected_cost(release: str, page_size: int, expected: float) -> None:
    assert expected_mib_per_tib(release, page_size) == pytest.approx(expected)


@pytest.mark.parametrize(("release", "page_size"), [("6.15.2", 4096), ("mine", 4096), ("", 4096), ("7.1.13", 8192)])
def test_no_formula_for_what_nobody_has_looked_at(release: str, page_size: int) -> None:
    assert expected_mib_per_tib(release, page_size) is None
    assert compare(release, page_size, 500.0) == ""


def test_a_disagreement_is_told_with_its_sign() -> None:
    assert compare("7.1.13", 4096, 819.5) == (
        "7.1.13: 819.5 MiB/TiB measured, 564.0 by structure sizes (swap table phase III, no swap_map): "
        "they differ by +255.5 MiB."
    )


def test_generations_do_not_overlap() -> None:
    for one, following in itertools.pairwise(GENERATIONS):
        assert one.until is not None and one.until <= following.since
    assert generation("7.1-rc3") is generation("7.1.13") is not generation("7.0.13")
