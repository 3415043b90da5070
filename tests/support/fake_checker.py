"""The port of checks without a network, for tests and simulations: servers are tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from controller.domain.errors import KernrollError, Permanent, Temporary
from controller.domain.record.checks import (
    AlertRule,
    Answer,
    Check,
    CheckKind,
    Question,
    Sample,
    judge_alerts,
    judge_samples,
)


@dataclass(slots=True)
class FakeServers:
    """What the servers behind the checks would say."""

    # Query -> its values; a query that is not there cannot be read.
    samples: dict[str, Sequence[Sample]] = field(default_factory=dict)
    rules: Sequence[AlertRule] = ()
    # Address -> what the program there answers, one after the other, the last again and again.
    replies: dict[str, list[Answer | KernrollError]] = field(default_factory=dict)
    # Addresses where nobody answers.
    away: set[str] = field(default_factory=set)


class FakeChecker:
    """See Checker."""

    def __init__(self, servers: FakeServers | None = None) -> None:
        self.servers = servers or FakeServers()
        self.asked: list[Question] = []

    async def ask(self, check: Check, question: Question) -> Answer:
        """See Checker.ask."""
        self.asked.append(question)
        if check.url in self.servers.away:
            raise Temporary(f"{check.url} cannot be reached")
        match check.kind:
            case CheckKind.PROMETHEUS:
                return judge_samples(check, _found(self.servers.samples, check))
            case CheckKind.ALERTS:
                return judge_alerts(check, self.servers.rules)
            case CheckKind.WEBHOOK:
                return self._reply(check)
            case CheckKind.MANUAL:
                raise Permanent(f"check {check.name} is reported by a person")
            case _:
                assert_never(check.kind)

    def _reply(self, check: Check) -> Answer:
        replies = self.servers.replies.get(check.url, [Temporary(f"{check.url} cannot be reached")])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, KernrollError):
            raise reply
        return reply


def _found(samples: Mapping[str, Sequence[Sample]], check: Check) -> Sequence[Sample]:
    if check.query not in samples:
        raise Permanent(f"{check.url} refuses the query {check.query}")
    return samples[check.query]
