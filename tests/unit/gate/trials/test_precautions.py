"""Sick hosts are measured again before they are left out; two hosts far beyond the margin stop the wave."""

import math

import pytest

from controller.gate.precautions import SickList, catastrophe, sick_list


def test_a_sick_host_is_measured_again_once_and_then_quarantined_by_name() -> None:
    assert sick_list(["b", "a"], ["c"]) == SickList(rerun=("a", "b"), quarantined=())
    assert sick_list(["b", "a"], ["a"]) == SickList(rerun=("b",), quarantined=("a",))
    assert sick_list([], ["a"]) == SickList(rerun=(), quarantined=())


def test_two_hosts_beyond_ten_margins_are_a_catastrophe() -> None:
    assert catastrophe({"b": 0.5, "a": math.inf, "c": 0.01, "d": math.nan}, 0.03) == ("a", "b")
    assert catastrophe({"a": 0.5, "b": 0.3}, 0.03) == ()
    assert catastrophe({}, 0.03) == ()
    with pytest.raises(AssertionError):
        catastrophe({}, 0.0)
