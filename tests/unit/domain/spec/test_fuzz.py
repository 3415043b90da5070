"""Whatever is written, a rollout file is either read or refused with lines that name the file."""

from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT

from controller.domain.errors import InvalidInput
from controller.domain.spec.parse import parse_spec

EXAMPLE = (ROOT / "deploy" / "examples" / "rollout-swap-table-phase3.yaml").read_text().splitlines()
WORDS = ("", "0", "-1", "1.5", "1e999", "9" * 400, "true", "null", "'x'", "30s", "1TiB", "é", "\t")
SHAPES = ("[]", "{}", "[{}]", "{a: 1}", "x: y", "- 1", "{per_stratum: 1, rest: true}", "{? 1 : 2}", "|\n  x")
REFUSED = ("!!int 3", "&a b", "*a", "---", "%YAML 9.9")
FRAGMENTS = st.one_of(st.sampled_from((*WORDS, *SHAPES, *REFUSED)), st.text(max_size=12))


def answer(text: str) -> None:
    try:
        parse_spec(text, "f.yaml")
    except InvalidInput as refused:
        for line in str(refused).splitlines():
            assert line.startswith("f.yaml:")
            assert int(line.split(":")[1]) >= 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    answer(text)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(EXAMPLE) - 1), FRAGMENTS, st.booleans())
def test_an_example_with_one_field_replaced(index: int, fragment: str, keep_key: bool) -> None:
    lines = list(EXAMPLE)
    key, colon, _ = lines[index].partition(":")
    lines[index] = f"{key}{colon} {fragment}" if keep_key else fragment
    answer("\n".join(lines))
