"""What a validation found, in sentences that name line, field and value."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.domain.spec.yaml import Document, Path, Problem, field_name

MAX_PROBLEMS: Final = 50
_TYPES: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "string_type": "must be text; write it in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "mapping_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be a finite number",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def problems_of(error: ValidationError, document: Document, root: type[BaseModel]) -> list[Problem]:
    """Return what a validation found, each with its line and a sentence."""
    found = []
    for detail in error.errors(include_url=False)[:MAX_PROBLEMS]:
        # A list whose items are wrong is also called too short; the items' own lines say it better.
        if detail["type"] == "too_short" and detail["input"]:
            continue
        path: Path = tuple(part for part in detail["loc"] if part != "[key]")
        text = _sentence(detail, path, root)
        found.append(Problem(line=document.line_of(path), field=field_name(path), text=text))
    return found


def _sentence(detail: ErrorDetails, path: Path, root: type[BaseModel]) -> str:
    kind, context, got = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind in _TYPES:
        return _TYPES[kind] + ("" if kind in ("missing", "string_too_short") else _got(got))
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"must be {words} {context[key]:g}{_got(got)}"
    match kind:
        case "extra_forbidden":
            text = f"is not a known field{_suggestion(str(path[-1]), _fields_at(root, path[:-1]))}"
        case "literal_error":
            text = _choice(str(context["expected"]), got)
        case "too_short":
            text = f"must have at least {context['min_length']} entries"
        case "too_long":
            text = f"must have at most {context['max_length']} entries"
        case "string_too_long":
            text = f"must be at most {context['max_length']} characters long"
        case "value_error":
            text = str(context["error"])
            text += "" if text.startswith(repr(got)) else _got(got)
        case _:
            text = detail["msg"][:1].lower() + detail["msg"][1:] + _got(got)
    return text


def _choice(expected: str, got: Any) -> str:
    expected = expected.replace("True", "true").replace("False", "false")
    allowed = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    return f"must be {' or '.join(allowed)}{_got(got)}{_meant(str(got), allowed)}"


def _got(value: Any) -> str:
    """Return the offending value for a message; nothing for a mapping or list, whose line says enough."""
    if isinstance(value, (dict, tuple, BaseModel)):
        return ""
    if value is None:
        return " (got nothing)"
    shown = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return f" (got {shown if len(shown) <= 60 else shown[:57] + '...'})"


# What distributions call the architectures.
_OTHER_NAMES = {"amd64": "x86_64", "x86-64": "x86_64", "aarch64": "arm64"}


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return _meant(wrong, names) or (f"; known here: {', '.join(names)}" if names else "")


def _meant(wrong: str, known: Sequence[str]) -> str:
    """Return what was probably meant; empty when nothing comes close."""
    close = difflib.get_close_matches(wrong, known, n=1)
    meant = _OTHER_NAMES.get(wrong, close[0] if close else "")
    return f"; did you mean {meant}?" if meant in known else ""


def _fields_at(root: type[BaseModel], path: Path) -> list[str]:
    """Return the names that may be written at `path`, walking the models from the top."""
    found: Any = root
    for part in path:
        found = _step(found, part)
    return [info.alias or name for name, info in found.model_fields.items()] if _is_model(found) else []


def _step(found: Any, part: str | int) -> Any:
    if _is_model(found):
        for name, info in found.model_fields.items():
            if (info.alias or name) == part:
                return _unwrap(info.annotation)
        return None
    arguments = typing.get_args(found)
    # A list's item type comes first, a mapping's value type last.
    return _unwrap(arguments[0] if isinstance(part, int) else arguments[-1]) if arguments else None


def _unwrap(annotation: Any) -> Any:
    """Return the type inside Annotated and Optional."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(one for one in typing.get_args(annotation) if one is not type(None))
        else:
            return annotation


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)
