"""Secrets are not told: those that are known by value or by form. What looks like none is told as it is."""

import pytest

from controller.domain.redaction import HIDDEN, redacted, secrets_of

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("join with kr1.AbC-123_x.deadbeef now", f"join with {HIDDEN} now"),
        (f"key: {KEY} and more", f"key: {HIDDEN} and more"),
        (f"key: {KEY[:60]}", f"key: {HIDDEN}"),
        (KEY.replace("\n", " "), HIDDEN),
        ("ansible_become_password: hunter2x, again", f"ansible_become_password: {HIDDEN}, again"),
        ('join_token = "a b c" done', f"join_token = {HIDDEN} done"),
        ("{'ansible_password': 'x y'}", f"{{'ansible_password': {HIDDEN}}}"),
        ("curl --password hunter2x", f"curl --password {HIDDEN}"),
        ("get https://me:hunter2x@mirror/ failed", f"get https://me:{HIDDEN}@mirror/ failed"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(said: str, told: str) -> None:
    assert redacted(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "the password for sudo is wrong or missing: set ansible_become_password (in a vault) in the inventory",
        "Permission denied (publickey,password)",
        "it is not enrolled, and no join token was given",
        "linux-image-7.1: Depends: linux-base (>= 99) but it is not installable",
        "https://mirror.example:443/debian",
    ],
)
def test_what_is_none_is_told(said: str) -> None:
    assert redacted(said) == said


def test_known_values_are_hidden_wherever_they_stand() -> None:
    known = secrets_of({"kernroll_join_token": "correct horse", "kernroll_release": "7.1.13", "become_password": "abc"})
    assert known == ("correct horse", "abc")
    # Three letters are in half of all words.
    assert redacted("said correct horse, abc", known) == f"said {HIDDEN}, abc"


def test_the_work_does_not_explode() -> None:
    long = "a" * 65_536
    assert redacted(long) == long
    assert redacted("-----BEGIN " * 5000).startswith("-----BEGIN")
