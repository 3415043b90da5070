"""What every part of a rollout file is made of: strict models, names, paths and texts."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from controller.domain.hosts.expressions import MAX_CHARACTERS, checked
from controller.domain.printable import is_plain
from controller.gate.kernel_log import KnownLine, particular_letters

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?")
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?")


def matching(pattern: re.Pattern[str], sentence: str) -> AfterValidator:
    """Return a validator that refuses with the sentence what the pattern does not match as a whole."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _absolute_on(whose: str) -> AfterValidator:
    def check(value: str) -> str:
        if not value.startswith("/"):
            raise ValueError(f"must be an absolute path on {whose}")
        return value

    return AfterValidator(check)


def one_line(value: str) -> str:
    """Return the text; raises ValueError when it has line breaks or control characters."""
    if not is_plain(value):
        raise ValueError("must be one line of printable characters")
    return value


def _listed(value: Any) -> Any:
    if not isinstance(value, (str, tuple)):
        raise ValueError("must be text or a list of texts; write numbers in quotes")
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, matching(_DNS_LABEL, "must be 1 to 63 lower-case letters, digits and inner dashes")]
HostName = Annotated[str, matching(_HOST_NAME, "must be a host name")]
LabelKey = Annotated[str, matching(_LABEL_KEY, "must be a label or fact name")]
Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(one_line)]
_PathText = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(one_line)]
AbsolutePath = Annotated[_PathText, _absolute_on("the controller's machine")]
HostPath = Annotated[_PathText, _absolute_on("the hosts")]
OneOrMore = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class Model(BaseModel):
    """Nothing is converted, unknown fields are refused, and a value never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def exactly_one(model: BaseModel, *names: str) -> None:
    """Raise ValueError unless exactly one of the fields is given."""
    given = [name for name in names if getattr(model, name) is not None]
    choice = f"{', '.join(names[:-1])} or {names[-1]}"
    if not given:
        raise ValueError(f"needs one of {choice}")
    if len(given) > 1:
        raise ValueError(f"takes only one of {choice} (got {' and '.join(given)})")


Where = Annotated[
    str,
    Field(max_length=MAX_CHARACTERS),
    AfterValidator(checked),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": MAX_CHARACTERS,
            "description": "A condition in the Common Expression Language over the facts of `kernroll hosts facts`.",
            "examples": ['arch == "arm64" && swap_total >= TiB(1)', 'zone == "a"'],
        }
    ),
]


MAX_KNOWN_LINES: Final = 50
# An exception made of nothing but what every line of a kind has would except the whole kind.
_FEWEST_LETTERS: Final = 5


def _particular(value: str) -> str:
    if particular_letters(value) < _FEWEST_LETTERS:
        raise ValueError(
            'excepts more than one fault; write the line as the log has it, or its place: "mm/swapfile.c swap_free_nr"'
        )
    return value


class KnownLineEntry(Model):
    """A line that counts for neither kernel wherever it is written, and is told with its reason."""

    # The line as the log has it, or a part of it or of its signature; numbers and addresses may differ.
    line: Annotated[Text, AfterValidator(_particular)]
    # Why it may be written.
    reason: Text

    @property
    def known_line(self) -> KnownLine:
        """The entry as the gate takes it."""
        return KnownLine(line=self.line, reason=self.reason)
