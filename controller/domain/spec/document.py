"""The fields of a rollout file, their defaults, and the checks across them."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from controller.domain.hosts.release_patterns import checked_pattern
from controller.domain.kernels import DebianKernel, ImageKernel, KernelSource, PackageDirectoryKernel
from controller.domain.spec.checks import CheckEntry, repeated_names
from controller.domain.spec.design import Designed, design_problems
from controller.domain.spec.fields import (
    MAX_KNOWN_LINES,
    AbsolutePath,
    HostName,
    KnownLineEntry,
    LabelKey,
    Model,
    Name,
    OneOrMore,
    Text,
    Where,
    exactly_one,
    matching,
    one_line,
)
from controller.domain.spec.units import CountOrShare, Duration, Percent, PositiveDuration, percent_share_or_zero
from controller.domain.spec.windows import MaintenanceWindow
from controller.domain.spec.workloads import Workloads
from controller.gate.metrics import METRICS
from controller.gate.priors import PRIORS
from controller.gate.verdict import MetricRole

_DEBIAN_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?([-+~][-+~.A-Za-z0-9]+)?")
_FLAVOUR: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Architecture = Literal["x86_64", "arm64"]


class DebianEntry(Model):
    """A kernel from Debian's archive, resolved when the rollout is planned."""

    version: Annotated[str, matching(_DEBIAN_VERSION, 'must be a kernel version, for example "7.1.13"')]
    # "cloud" is the flavour for virtual machines; "generic" the one without a name of its own.
    flavour: Annotated[str, matching(_FLAVOUR, 'must be a flavour, for example "cloud" or "generic"')] = "cloud"


class ImageEntry(Model):
    """A kernel image file, with its modules when it needs any."""

    path: AbsolutePath
    # A directory that contains lib/modules/RELEASE. None: the image needs no modules.
    modules: AbsolutePath | None = None


class KernelEntry(Model):
    """Where the kernel of one architecture comes from: exactly one of `debian`, `directory` and `image`."""

    debian: DebianEntry | None = None
    # A directory of .deb or of .rpm files, as `make bindeb-pkg` and `make binrpm-pkg` leave them.
    directory: AbsolutePath | None = None
    image: ImageEntry | None = None
    # Appended to the host's own kernel command line while this kernel runs.
    command_line: Annotated[str, Field(max_length=1024), AfterValidator(one_line)] = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        exactly_one(self, "debian", "directory", "image")
        return self

    @property
    def source(self) -> KernelSource:
        """The kernel to be found, without the file around it."""
        if self.debian is not None:
            flavour = "" if self.debian.flavour == "generic" else self.debian.flavour
            return DebianKernel(version=self.debian.version, flavour=flavour, command_line=self.command_line)
        if self.directory is not None:
            return PackageDirectoryKernel(path=self.directory, command_line=self.command_line)
        assert self.image is not None, "a checked entry names one source"
        return ImageKernel(path=self.image.path, modules=self.image.modules, command_line=self.command_line)


class Expected(Model):
    """What the hosts of one architecture must run before the rollout may touch them."""

    # A shell pattern over `uname -r`, for example "7.0.13*".
    release: Annotated[Text, AfterValidator(checked_pattern)] | None = None
    # The version at the head of `uname -r`, for example "7.0.13".
    version: Text | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        exactly_one(self, "release", "version")
        return self


class Selector(Model):
    """Which hosts take part. Every condition must hold; an empty selector takes every host."""

    # Label or fact (architecture, platform, stratum, kernel_release) to its value or to a list of allowed values.
    match: Mapping[LabelKey, OneOrMore] = Field(default_factory=dict)
    # Only these hosts. Empty: no restriction by name.
    hosts: tuple[HostName, ...] = ()
    # An expression over hosts, as `kernroll hosts list --where` takes it. None: no restriction.
    where: Where | None = None


class Strata(Model):
    """Hosts are compared and canaried within strata. Architecture and platform always count."""

    # Labels that split strata further, for example [page_size].
    labels: tuple[LabelKey, ...] = ()


class Wave(Model):
    """One step of the rollout: exactly one of `per_stratum`, `percent` and `rest`."""

    # Only hosts that match, as `kernroll hosts list --where` takes it; sizes count among them. None: all hosts.
    where: Where | None = None

    # This many further hosts of every stratum.
    per_stratum: Annotated[int, Field(ge=1, le=100_000)] | None = None
    # Until this share of every stratum is done, the earlier waves included.
    percent: Annotated[float, Field(gt=0, le=100)] | None = None
    # All hosts that are left.
    rest: Literal[True] | None = None
    # How long the wave's hosts run the new kernel under observation before the wave is judged.
    bake_s: Duration = Field(default=86_400.0, alias="bake")
    # From its opening to its verdict, baking included; a wave that takes longer pauses the rollout.
    max_duration_s: PositiveDuration = Field(default=30 * 86_400.0, alias="max_duration")
    # Persons who must approve before the wave begins.
    approvals: Annotated[int, Field(ge=0, le=10)] = 0

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        exactly_one(self, "per_stratum", "percent", "rest")
        return self


class Claim(Model):
    """What the author of the kernel says it saves; confirmed or refuted per stratum."""

    metric: Text
    saves_at_least: Annotated[float, Field(gt=0)]
    unit: Text
    # Two-sided confidence of the interval.
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    # "swap_size": the saving per TiB times the swap of all hosts in the rollout. "none": no fleet total.
    extrapolate: Literal["swap_size", "none"] = "swap_size"
    on_refuted: Literal["pause", "revert"] = "pause"
    # An open claim never promotes.
    on_open: Literal["pause"] = "pause"


class ErrorBudget(Model):
    """Hosts whose rig may fail before the rollout pauses: so many, or this share of the open waves, whatever is more.

    A failure that speaks against the kernel has no budget.
    """

    hosts: Annotated[int, Field(ge=0, le=100_000)] = 1
    share: Annotated[float, BeforeValidator(percent_share_or_zero, json_schema_input_type=str)] = 0.05


class Drill(Model):
    """Hosts of the first wave that are panicked on purpose, on trial, before they are measured."""

    per_stratum: Annotated[int, Field(ge=1, le=100)] = 1
    # From the order to panic to the agent's answer under the old kernel; a slower way back pauses the rollout.
    revert_slo_s: PositiveDuration = Field(default=900.0, alias="revert_slo")


class Limits(Model):
    """Every wait of the rollout. A host that exceeds one fails with that limit's name."""

    # Hosts of this rollout between their first measurement and their blessing at the same time: the only ones that can
    # be down or on an unblessed kernel. None: only `max_unavailable` bounds them.
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    # "fleet" or a label (zone, rack, cluster, …) -> hosts of one such place that may be unavailable at the same time,
    # as a number or a share of its hosts ("2 %", rounded down, at least 1). Hosts that are away for other reasons and
    # those of other rollouts count. None: one a zone. Where neither `fleet` nor `max_in_flight` is given, 2 % of the
    # fleet.
    max_unavailable: Mapping[LabelKey, CountOrShare] | None = None
    error_budget: ErrorBudget = ErrorBudget()
    # How long approvals may be awaited before the rollout pauses.
    approval_timeout_s: PositiveDuration = Field(default=7 * 86_400.0, alias="approval_timeout")
    # From the cold boot to a healthy agent under the new kernel. None: 15 minutes for virtual machines and 45 for
    # others, and once 20 boots of the stratum are known twice the slowest percent of them.
    boot_timeout_s: PositiveDuration | None = Field(default=None, alias="boot_timeout")
    # From the healthy agent to the blessing.
    probation_timeout_s: PositiveDuration = Field(default=1800.0, alias="probation_timeout")
    # All workloads on the old kernel.
    baseline_timeout_s: PositiveDuration = Field(default=1800.0, alias="baseline_timeout")
    # Bringing the kernel to the host.
    stage_timeout_s: PositiveDuration = Field(default=1800.0, alias="stage_timeout")
    # Longest silence of an agent that should be talking.
    heartbeat_timeout_s: PositiveDuration = Field(default=90.0, alias="heartbeat_timeout")
    # Bringing one host back to its former kernel.
    revert_timeout_s: PositiveDuration = Field(default=1800.0, alias="revert_timeout")
    # What becomes of a host that is not heard when its time to come back is over: nothing more, or its power is cut and
    # given again, once, where the controller's inventory names its management controller (kernroll_power).
    power_cycle: Literal["never", "once"] = "never"
    # Whether hosts that start from their own disk take part only when a watchdog would end a hang of the kernel before
    # and of the new one, whether it is told when none would, or neither.
    watchdog: Literal["required", "wanted", "ignored"] = "wanted"
    # A broken rig (tool, network, disk) is tried again this often before it ends the host's journey.
    infrastructure_retries: Annotated[int, Field(ge=0, le=3)] = 3
    # A run that died or timed out is repeated this often; the next one is held against the kernel.
    died_retries: Annotated[int, Field(ge=0, le=3)] = 1


class Metadata(Model):
    """What the rollout is called."""

    name: Name


class RolloutSpec(Designed):
    """Everything under `spec`."""

    # Stands above it in the file.
    _name: str = PrivateAttr("")

    kernels: Annotated[Mapping[Architecture, KernelEntry], Field(min_length=1)]
    expected: Mapping[Architecture, Expected] = Field(default_factory=dict, alias="from")
    selector: Selector = Selector()
    strata: Strata = Strata()
    waves: Annotated[tuple[Wave, ...], Field(min_length=1, max_length=100)] = (Wave(per_stratum=1), Wave(rest=True))
    workloads: Workloads
    claims: tuple[Claim, ...] = Field(default=(), alias="claim")
    # Performance metric -> the change for the worse that you would accept to keep the kernel ("3 %"); metrics that are
    # not named take their default.
    margins: Mapping[Text, Percent] = Field(default_factory=dict)
    # Proves that hosts come back by themselves before more of them are risked. None: no host is panicked.
    drill: Drill | None = None
    limits: Limits = Limits()
    # Whether hosts may be given an older kernel than they run.
    allow_downgrade: bool = False
    # When hosts may be taken down to change kernel. Empty: at any time.
    windows: Annotated[tuple[MaintenanceWindow, ...], Field(max_length=20)] = ()
    # What else must pass at the end of every wave, once the gate's verdict says promote.
    checks: Annotated[tuple[CheckEntry, ...], Field(max_length=50)] = ()
    # What a host measured where more than its kernel changed between its boots (settings, command line, programs): only
    # told, or void, which holds its wave.
    confounders: Literal["show", "void"] = "show"
    # Lines of kernel logs that are held against no kernel, each with its reason.
    known_lines: Annotated[tuple[KnownLineEntry, ...], Field(max_length=MAX_KNOWN_LINES)] = ()
    # Why hosts whose kernel log has holes, or cannot be read at all, do not hold their wave. None: they hold it.
    accept_missing_logs: Text | None = None
    # What happens to the others when one stratum fails: the whole rollout reverts, or only that stratum.
    on_stratum_failure: Literal["revert", "hold"] = "revert"
    # Decides which hosts go first. None: made when the rollout is planned, and printed.
    salt: Text | None = None

    @property
    def name(self) -> str:
        """What the rollout is called."""
        return self._name

    def named(self, name: str, **changes: object) -> Self:
        """Return the spec under another name, with other values in some fields."""
        other = self.model_copy(update=changes)
        other._name = name
        return other


class RolloutDocument(Model):
    """The whole file."""

    api_version: Literal["kernroll/v1"] = Field(alias="apiVersion")
    kind: Literal["Rollout"]
    metadata: Metadata
    spec: RolloutSpec

    @property
    def named(self) -> RolloutSpec:
        """The rollout as the rest of kernroll reads it."""
        return self.spec.named(self.metadata.name)


def problems_across(body: RolloutSpec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what is wrong between fields that are each right: where, below `spec`, and a sentence."""
    # Expression -> the largest share so far: shares count among the hosts that match.
    percent: dict[str | None, float] = {}
    for index, wave in enumerate(body.waves):
        if wave.rest and wave.where is None and index != len(body.waves) - 1:
            yield ("waves", index), "takes the rest, so it must be the last wave"
        before = percent.get(wave.where, 0.0)
        if wave.percent is not None and wave.percent <= before:
            yield ("waves", index, "percent"), f"counts the earlier waves too, so it must be more than {before:g}"
        percent[wave.where] = max(before, wave.percent or 0.0)
    seen: set[str] = set()
    for index, claim in enumerate(body.claims):
        metric = METRICS.get(claim.metric)
        if metric is None:
            choice = " or ".join(sorted(METRICS))
            yield ("claim", index, "metric"), f"cannot carry a claim; choose {choice} (got {claim.metric!r})"
            continue
        if claim.unit != metric.unit:
            yield ("claim", index, "unit"), f"must be {metric.unit} for {metric.name} (got {claim.unit!r})"
        if claim.metric in seen:
            yield ("claim", index, "metric"), f"claims {claim.metric} a second time"
        if getattr(body.workloads, metric.workload) is None:
            yield ("claim", index, "metric"), f"needs workloads.{metric.workload}, which measures it"
        seen.add(claim.metric)
    for name in body.margins:
        prior = PRIORS.get(name)
        if prior is None or prior.role is MetricRole.EXPLAIN or not prior.workload:
            known = ", ".join(sorted(name for name, one in PRIORS.items() if one.workload and one.margin))
            yield ("margins", name), f"is no performance metric with a margin; there are {known}"
        elif getattr(body.workloads, prior.workload, None) is None:
            yield ("margins", name), f"needs workloads.{prior.workload}, which measures it"
    yield from design_problems(
        body, waves=len(body.waves), workloads=body.workloads, max_in_flight=body.limits.max_in_flight
    )
    for index, name in repeated_names(body.checks):
        yield ("checks", index, "name"), f"is the name of an earlier check ({name}); every check needs its own"
