"""A checked set of faults, how it is read from a file's text, and how one fault is taken out of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controller.domain.errors import InvalidInput
from controller.domain.spec.errors import problems_of
from controller.domain.spec.yaml import Problem, field_name, read_document, refuse
from controller.sim.faults.document import (
    Cluster,
    Controller,
    FaultDocument,
    Group,
    Hosts,
    Monitoring,
    Network,
    NewKernel,
    problems_across,
)
from controller.sim.faults.fields import Effect, Incident

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """A checked fault file; fault_model explains the fields. Without arguments nothing goes wrong."""

    name: str = "none"
    fleet: tuple[Group, ...] = ()
    new_kernel: NewKernel = field(default_factory=NewKernel)
    hosts: Hosts = field(default_factory=Hosts)
    network: Network = field(default_factory=Network)
    controller: Controller = field(default_factory=Controller)
    monitoring: Monitoring = field(default_factory=Monitoring)
    cluster: Cluster = field(default_factory=Cluster)
    operator: Mapping[str, Incident] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return the faults that are there, as `without` takes them: "hosts.dead_disk"."""
        return tuple(_names(self))

    def without(self, names: Iterable[str]) -> "Faults":
        """Return these faults without some; raises InvalidInput for one that is not there."""
        left = set(names)
        unknown = sorted(left - set(self.names()))
        if unknown:
            there = ", ".join(self.names()) or "none"
            raise InvalidInput(f"--without {unknown[0]}: no such fault in {self.name}; there are {there}")
        return Faults(
            name=self.name,
            fleet=self.fleet,
            new_kernel=_less(self.new_kernel, "new_kernel", left),
            hosts=_less(self.hosts, "hosts", left),
            network=_less(self.network, "network", left),
            controller=_less(self.controller, "controller", left),
            monitoring=_less(self.monitoring, "monitoring", left),
            cluster=_less(self.cluster, "cluster", left),
            operator={verb: one for verb, one in self.operator.items() if f"operator.{verb}" not in left},
            effects=tuple(one for one in self.effects if f"effects.{one.metric}" not in left),
        )


def _names(faults: Faults) -> Iterator[str]:
    for part in ("new_kernel", "hosts", "network", "controller", "monitoring", "cluster"):
        model: BaseModel = getattr(faults, part)
        for name in type(model).model_fields:
            if getattr(model, name) is not None:
                yield f"{part}.{name}"
    yield from (f"operator.{verb}" for verb in faults.operator)
    yield from dict.fromkeys(f"effects.{effect.metric}" for effect in faults.effects)


def _less(model: _M, part: str, left: set[str]) -> _M:
    gone = {name: None for name in type(model).model_fields if f"{part}.{name}" in left}
    return model.model_copy(update=gone) if gone else model


def parse_faults(text: str, file_name: str, verbs: Collection[str]) -> Faults:
    """Return the faults written in `text`; `verbs` are those that an operator has.

    Raises InvalidInput whose text has one line per problem, "faults.yaml:12: spec.hosts.dead_disk.share: must be …", in
    the order of the file.
    """
    document = read_document(text, file_name)
    if not isinstance(document.data, dict):
        raise refuse(file_name, [Problem(line=1, field="", text="is no fault file: it must start with apiVersion")])
    problems = list(document.problems)
    try:
        parsed = FaultDocument.model_validate(document.data)
    except ValidationError as error:
        raise refuse(file_name, problems + problems_of(error, document, FaultDocument)) from error
    for place, sentence in problems_across(parsed.spec, verbs):
        path = ("spec", *place)
        problems.append(Problem(line=document.line_of(path), field=field_name(path), text=sentence))
    if problems:
        raise refuse(file_name, problems)
    body = parsed.spec
    return Faults(
        name=parsed.metadata.name,
        fleet=body.fleet,
        new_kernel=body.new_kernel,
        hosts=body.hosts,
        network=body.network,
        controller=body.controller,
        monitoring=body.monitoring,
        cluster=body.cluster,
        operator=body.operator,
        effects=body.effects,
    )
