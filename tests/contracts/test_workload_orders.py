"""A rollout file and the agents agree on what a workload may be told: the edges of every parameter, on both sides."""

import random
from collections.abc import Iterator, Mapping
from itertools import combinations
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ValidationError

from agent.adapters.wire import messages
from agent.adapters.wire.order_messages import order_of
from agent.domain.orders.presets import PRESETS, Preset, order_from, presets_of
from agent.domain.session.commands import Unsupported
from agent.workloads.registry import KINDS
from controller.adapters.rpc.workload_messages import workload_message
from controller.domain.record.policy import Task
from controller.domain.spec import units as spec_units
from controller.domain.spec.swap import PRESET_SWAPS
from controller.domain.spec.workloads import PRESETS_WITH_OBJECTS, Workload, Workloads
from protos.kernroll.v1 import agent_pb2

# What both sides may be told of a text, rightly or not.
TEXTS: Final = (
    "lzo-rle",
    "mm/swapfile.o",
    "/mm/swapfile.o",
    "../swapfile.o",
    "-j.o",
    "mm/cow",
    "mm/a b",
    "cow",
    "x/../y",
)
RUNNING: Final = {"repetitions", "warmups", "timeout"}
# The least that a kind of swap needs beside its name.
WHOLE: Final[Mapping[str, Mapping[str, Any]]] = {
    "block_device": {"path": "/dev/x"},
    "brd": {"size": "1MiB"},
    "zram": {"size": "1MiB"},
    "loop": {"size": "1MiB"},
    "file": {"size": "1MiB"},
    "existing": {},
}
# Of combinations of three parameters and more a share is tried, always the same.
SEED, TRIED = 1, 50
# Where a file is stricter than the agents: what they would pass over is a mistake of whoever wrote it.
STRICTER: Final = ("has no path", "only one of device or swap")

Document = dict[str, Any]


def model_of(annotation: Any) -> type[BaseModel] | None:
    found = [
        one for one in get_args(annotation) or (annotation,) if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    return found[0] if found else None


MODELS: Final = {name: model_of(field.annotation) for name, field in Workloads.model_fields.items()}


def edges(annotation: Any, metadata: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values at which a parameter's type begins and ends."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return edges(inner, (*metadata, *(part for one in more for part in getattr(one, "metadata", (one,)))))
    if origin is UnionType or str(origin) == "typing.Union":
        return tuple(one for part in get_args(annotation) if part is not NoneType for one in edges(part, metadata))
    if origin is Literal:
        return get_args(annotation)
    if origin is tuple:
        return tuple((one,) for one in TEXTS)
    if annotation is bool:
        return (True, False)
    before = {one.func for one in metadata if isinstance(one, BeforeValidator)}
    if spec_units.size_bytes in before:
        return ("1MiB", "1GiB", "8191PiB")
    if spec_units.duration_s in before:
        return ("1s", "1ms", "90d")
    if annotation is int:
        low, high = (
            next(getattr(one, name) for one in metadata if isinstance(one, kind))
            for kind, name in ((Ge, "ge"), (Le, "le"))
        )
        return (low, high - 1, high)
    assert annotation is str, annotation
    return ("/srv/x", *TEXTS)


def parameters(model: type[BaseModel], *prefix: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Return the edges of every parameter by its path in the file."""
    found: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        inner = model_of(field.annotation)
        if inner is None:
            found[path] = edges(field.annotation, tuple(field.metadata))
        else:
            found |= parameters(inner, *path)
    return found


def put(document: Document, path: tuple[str, ...], value: Any) -> Document:
    head, *rest = path
    return {**document, head: put(document.get(head, {}), tuple(rest), value) if rest else value}


def documents(name: str) -> Iterator[Document]:
    """Yield what a file may say of a workload: every pair of edges, and a share of what else there is."""
    model = MODELS[name]
    assert model is not None
    all_of = parameters(model)
    presets = (None, *all_of.pop(("preset",), ()))
    all_of.pop(("swap", "kind"))
    singles = [(path, value) for path, values in all_of.items() for value in values]
    chosen = random.Random(SEED)
    for preset in presets:
        for kind in (None, *WHOLE):
            base: Document = {} if preset is None else {"preset": preset}
            if kind is not None:
                base["swap"] = {"kind": kind, **WHOLE[kind]}
                yield {**base, "swap": {"kind": kind}}
            yield base
            for path, value in singles:
                yield put(base, path, value)
            pairs = [pair for pair in combinations(singles, 2) if pair[0][0] != pair[1][0]]
            for one, other in pairs if len(pairs) < TRIED else chosen.sample(pairs, TRIED):
                yield put(put(base, *one), *other)
            for _ in range(TRIED):
                mixed = base
                for path, value in chosen.sample(singles, 5):
                    mixed = put(mixed, path, value)
                yield mixed


def answer(name: str, workload: Mapping[str, Any], *, preset: str, repetitions: int, warmups: int) -> str:
    """Return why agents refuse what the file's words order; empty when they do not."""
    task = Task(
        workload=name, preset=preset, parameters=workload, repetitions=repetitions, warmups=warmups, timeout_s=60.0
    )
    sent = agent_pb2.Command(command_id="c", run_workload=workload_message(task)).SerializeToString()
    body = messages.command(agent_pb2.Command.FromString(sent)).body
    return body.why if isinstance(body, Unsupported) else ""


def raw(model: type[BaseModel], document: Document) -> dict[str, Any]:
    """Return what a file says by the contract's names, unchecked."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        word = field.alias or name
        if word not in document or word in RUNNING or word == "preset":
            continue
        value, inner = document[word], model_of(field.annotation)
        if inner is not None:
            values[name] = raw(inner, value)
        elif isinstance(value, tuple):
            values[name] = list(value)
        elif name.endswith("_bytes"):
            values[name] = spec_units.size_bytes(value) if isinstance(value, str) else value
        elif name.endswith("_s"):
            values[name] = spec_units.duration_s(value)
        else:
            values[name] = value
    return values


def refusal(name: str, document: Document) -> tuple[Workload | None, ValidationError | None]:
    try:
        return Workloads.model_validate({name: document}).given[name], None
    except ValidationError as error:
        return None, error


@pytest.mark.parametrize("name", MODELS)
def test_a_file_that_plans_is_refused_by_no_agent(name: str) -> None:
    refused: dict[str, Document] = {}
    accepted = 0
    for document in documents(name):
        workload, _ = refusal(name, document)
        if workload is None:
            continue
        accepted += 1
        why = answer(
            name,
            workload.parameters,
            preset=getattr(workload, "preset", None) or "",
            repetitions=workload.repetitions,
            warmups=workload.warmups,
        )
        if why:
            refused.setdefault(why, document)
    assert not refused
    assert accepted > 50, "the edges are not reached"


@pytest.mark.parametrize("name", [name for name in MODELS if name != "swap_mount"])
def test_a_file_that_does_not_plan_would_be_refused_by_the_agents_too(name: str) -> None:
    model = MODELS[name]
    assert model is not None
    taken: dict[str, Document] = {}
    for document in documents(name):
        _, error = refusal(name, document)
        # What is outside of a type's range the message may not be able to hold.
        if error is None or any(one["type"] != "value_error" for one in error.errors()):
            continue
        sentences = "; ".join(one["msg"] for one in error.errors())
        values = raw(model, document)
        if any(one in sentences for one in (*STRICTER, "absolute path")):
            continue
        if not answer(name, values, preset=document.get("preset", ""), repetitions=1, warmups=0):
            taken.setdefault(sentences, document)
    assert not taken


@pytest.mark.parametrize("name", MODELS)
def test_what_a_file_leaves_out_is_the_agents_own_default_as_in_a_run_without_a_rollout(name: str) -> None:
    swap = {"kind": "zram", "size_bytes": 1 << 30}
    task = Task(workload=name, parameters={"swap": swap}, repetitions=1, warmups=0, timeout_s=60.0)
    assert order_of(workload_message(task)) == order_from(KINDS[name].order, name, "", {"swap": swap})


def test_what_a_file_knows_of_the_presets_is_what_the_agents_have() -> None:
    for name in MODELS:
        for preset in presets_of(name):
            if name == "swap_mount":
                # A file names no preset of it.
                continue
            values: Mapping[str, Any] = PRESETS[Preset(preset)][name]
            known = PRESET_SWAPS[preset].model_dump(exclude_none=True)
            swap = dict(values["swap"])
            assert known.keys() == swap.keys()
            assert known.get("kind") == swap.get("kind") and known.get("zswap") == swap.get("zswap")
            assert ("objects" in values) == (name == "kernel_build" and preset in PRESETS_WITH_OBJECTS)


def test_a_device_that_would_be_full_is_refused_when_the_file_is_read() -> None:
    document = {"swap": {"kind": "zram", "size": "1GiB"}, "fill_percent": 96}
    _, error = refusal("swap_fill", document)
    assert error is not None and "95" in str(error)
