"""How a rollout file writes the checks that must pass at the end of every wave."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from controller.domain.record.checks import Check, CheckKind
from controller.domain.spec.fields import AbsolutePath, LabelKey, Model, Name, Text, exactly_one, one_line
from controller.domain.spec.units import PositiveDuration

_DEADLINE_S = 1800.0
# People sleep.
_MANUAL_DEADLINE_S = 86_400.0


def web_address(value: str) -> str:
    """Return the address; raises ValueError unless it is one of http or https without credentials."""
    sentence = 'must be an address such as "http://prometheus.example:9090"'
    try:
        parts = urlsplit(one_line(value))
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise ValueError(sentence) from error
    if not whole or any(sign.isspace() for sign in value):
        raise ValueError(sentence)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a password: write a token into a file and name it as token_file")
    if parts.fragment:
        raise ValueError("must not have a part after #")
    return value


def base_address(value: str) -> str:
    """Return the address of a server without a slash at its end; raises ValueError when it asks something already."""
    if urlsplit(web_address(value)).query:
        raise ValueError("must be the address of the server alone, without a question mark")
    return value.rstrip("/")


_Address = Annotated[str, Field(max_length=2048), AfterValidator(web_address)]
_Base = Annotated[str, Field(max_length=2048), AfterValidator(base_address)]
_Query = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(one_line)]


class _Server(Model):
    """Whom a check asks."""

    # Its content is sent as `Authorization: Bearer …`; it is read anew for every try. None: nothing is sent.
    token_file: AbsolutePath | None = None
    # The certificate authority of the server, in PEM. None: those that the machine trusts.
    ca_file: AbsolutePath | None = None


class PrometheusCheck(_Server):
    """A query of which every value must keep the bounds."""

    # Of the server, for example "http://127.0.0.1:9090", or of what speaks its protocol.
    url: _Base
    query: _Query
    max_: float | None = Field(default=None, alias="max")
    min_: float | None = Field(default=None, alias="min")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max_ is None and self.min_ is None:
            raise ValueError("needs max or min, which every value of the query must keep")
        if self.max_ is not None and self.min_ is not None and self.min_ > self.max_:
            raise ValueError(f"cannot be kept: min {self.min_:g} is more than max {self.max_:g}")
        return self


class AlertsCheck(_Server):
    """No alert with these labels may fire."""

    url: _Base
    # Label -> value; all of them must match. Empty: no alert at all may fire.
    match: Mapping[LabelKey, Text] = Field(default_factory=dict)


class WebhookCheck(_Server):
    """Another program says whether the wave passes."""

    url: _Address


class CheckEntry(Model):
    """One check: exactly one of `prometheus`, `alerts`, `webhook` and `manual`."""

    name: Name
    prometheus: PrometheusCheck | None = None
    alerts: AlertsCheck | None = None
    webhook: WebhookCheck | None = None
    # A person reports with `kernroll rollout check`.
    manual: Literal[True] | None = None
    # Between two tries while the answer is "wait" or an error.
    every_s: Annotated[PositiveDuration, Field(ge=1.0)] = Field(default=30.0, alias="every")
    # From the verdict of the wave to the answer. None: 30 minutes, and a day for a person.
    deadline_s: PositiveDuration | None = Field(default=None, alias="deadline")
    on_fail: Literal["pause", "revert"] = "pause"
    on_timeout: Literal["pause", "revert"] = "pause"
    # Asks and reports, and never holds a wave.
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        exactly_one(self, "prometheus", "alerts", "webhook", "manual")
        if self.manual and "every_s" in self.model_fields_set:
            raise ValueError("is asked of a person, who is not asked again and again: leave `every` out")
        if self.manual and self.dry_run:
            raise ValueError("waits for a person, and with dry_run nothing waits: leave one of them out")
        return self

    @property
    def check(self) -> Check:
        """The check as it is computed with."""
        server = self.prometheus or self.alerts or self.webhook
        kind = next(kind for kind in CheckKind if getattr(self, kind.value) is not None)
        query, alerts = self.prometheus, self.alerts
        default_s = _MANUAL_DEADLINE_S if self.manual else _DEADLINE_S
        return Check(
            name=self.name,
            kind=kind,
            url=server.url if server else "",
            token_file=(server.token_file or "") if server else "",
            ca_file=(server.ca_file or "") if server else "",
            query=query.query if query else "",
            at_most=query.max_ if query else None,
            at_least=query.min_ if query else None,
            match=alerts.match if alerts else {},
            every_s=self.every_s,
            deadline_s=default_s if self.deadline_s is None else self.deadline_s,
            on_fail=self.on_fail,
            on_timeout=self.on_timeout,
            dry_run=self.dry_run,
        )


def repeated_names(entries: Iterable[CheckEntry]) -> Iterable[tuple[int, str]]:
    """Yield the index and name of every check whose name an earlier one has."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.name in seen:
            yield index, entry.name
        seen.add(entry.name)
