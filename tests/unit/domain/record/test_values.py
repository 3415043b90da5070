"""Changed copies of frozen values: the same as those of the standard library."""

import dataclasses

import pytest

from controller.domain.record.journey import Role, Step
from controller.domain.state.attempt import Attempt
from controller.domain.values import replace

ATTEMPT = Attempt(
    rollout="trial",
    uid="u1",
    host="a",
    stratum="x86_64/vm",
    architecture="x86_64",
    role=Role.TREATED,
    wave=0,
    position=0,
)


def test_a_changed_copy_is_what_the_standard_library_makes() -> None:
    changes = {"step": Step.BAKE, "deadline": 5.0, "boot_ids": ("a-1", "a-2"), "revision": 7}
    ours, theirs = replace(ATTEMPT, **changes), dataclasses.replace(ATTEMPT, **changes)
    assert ours == theirs
    assert hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs)
    assert ATTEMPT.step is Step.PENDING


def test_a_copy_is_frozen_too() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        replace(ATTEMPT, revision=2).revision = 3  # type: ignore[misc]  # the point of the test


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="Attempt has no field 'stage'"):
        replace(ATTEMPT, stage=1)
