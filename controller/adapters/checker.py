"""The port of checks: Prometheus, alerts and webhooks, each try in a thread of its own pool."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import assert_never

from controller.adapters.prometheus import alert_rules, query_samples
from controller.adapters.webhook import post
from controller.domain.checks import Answer, Check, CheckKind, Question, judge_alerts, judge_samples
from controller.domain.errors import Permanent

# Servers that answer slowly must not take the threads of anything else.
_THREADS = 8


class NetworkChecker:
    """See Checker."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="check")

    async def ask(self, check: Check, question: Question) -> Answer:
        """See Checker.ask."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, _ask, check, question)

    def close(self) -> None:
        """Begin no further try; one under way ends by its own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ask(check: Check, question: Question) -> Answer:
    match check.kind:
        case CheckKind.PROMETHEUS:
            return judge_samples(check, query_samples(check))
        case CheckKind.ALERTS:
            return judge_alerts(check, alert_rules(check))
        case CheckKind.WEBHOOK:
            return post(check, question)
        case CheckKind.MANUAL:
            raise Permanent(f"check {check.name} is reported by a person")
        case _:
            assert_never(check.kind)
