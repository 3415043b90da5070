"""Any text is a condition or is refused with a place in it; whatever a host tells, it is decided or said why not."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.hosts.expressions import FUNCTIONS, ExpressionError, Undecided, expression, pointed
from controller.domain.hosts.facts import FACTS

_WORDS = [
    *FACTS,
    *(name.partition("(")[0] for name in FUNCTIONS),
    *(
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "!",
        "in",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        "?",
        ":",
        "+",
        "-",
        "*",
        "/",
        "%",
    ),
    *(
        '"a"',
        "'b'",
        '"',
        "1",
        "0",
        "1.5",
        "true",
        "null",
        "b'x'",
        "r'\\d'",
        "labels.zone",
        "has(labels.zone)",
        "\n",
        "ü",
        "\0",
    ),
]
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join),
    st.integers(1, 998).map(lambda depth: "(" * depth),
    st.integers(1, 490).map(lambda depth: "!" * depth + "connected"),
    st.integers(1, 240).map(lambda depth: "(" * depth + "connected" + ")" * depth),
    st.integers(1, 200).map(lambda length: " + ".join(["1"] * length) + " == 1"),
)
values: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=20), st.integers(-(2**70), 2**70), st.booleans(), st.lists(st.text(max_size=5), max_size=3)
)


@given(texts)
@settings(max_examples=600, deadline=None)
def test_a_text_is_a_condition_or_refused_with_a_place(text: str) -> None:
    try:
        found = expression(text)
    except ExpressionError as error:
        assert error.line >= 1
        assert error.column >= 1
        assert str(error).startswith(("column ", "line "))
        assert "^" in pointed(text, error)
    else:
        assert isinstance(found.decide({}), bool | Undecided)


@given(
    st.sampled_from(['arch == "a" && memory > 1', 'labels.zone == "a"', '"x" in swap_backends', "TiB(memory) > 5"]),
    st.dictionaries(st.sampled_from(sorted(FACTS)), values, max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_odd_facts_never_break_an_expression(text: str, facts: dict[str, Any]) -> None:
    assert isinstance(expression(text).decide(facts), bool | Undecided)
