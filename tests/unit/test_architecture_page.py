"""The page of the code's rooms is drawn from the contracts that hold them apart."""

from architecture_page import MARKS, PAGE, layers, page


def test_the_page_is_what_the_contracts_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run `make docs`"
    assert all(text.count(mark) == 1 for mark in MARKS)


def test_every_layer_is_named_once() -> None:
    for container, stacked in layers():
        names = [name for layer in stacked for name in layer]
        assert len(names) == len(set(names)), container
