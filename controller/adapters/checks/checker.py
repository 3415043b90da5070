"""The port of checks: Prometheus, alerts and webhooks, each try in a thread of its own pool."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import assert_never
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from controller.adapters.checks.prometheus import alert_rules, query_samples
from controller.adapters.checks.webhook import post
from controller.adapters.local.bounded_http import Limits
from controller.domain.errors import Permanent
from controller.domain.record.checks import Answer, Check, CheckKind, Question, judge_alerts, judge_samples

# Servers that answer slowly must not take the threads of anything else, and none of them those of the others.
_THREADS = 32
_THREADS_PER_SERVER = 4


class NetworkChecker:
    """See Checker."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="check")
        self._limits = limits or Limits()
        # By server, for as long as somebody asks it or waits to.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ask(self, check: Check, question: Question) -> Answer:
        """See Checker.ask."""
        server = urlsplit(check.url).netloc.lower()
        turn = self._turns.setdefault(server, asyncio.Semaphore(_THREADS_PER_SERVER))
        await turn.acquire()
        loop = asyncio.get_running_loop()

        def over(_try: object) -> None:
            # A thread whose caller has gone holds its turn until it has ended. After the loop nobody waits for one.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(turn.release)

        attempt = self._pool.submit(_ask, check, question, self._limits)
        attempt.add_done_callback(over)
        return await asyncio.wrap_future(attempt)

    def close(self) -> None:
        """Begin no further try; one under way ends by its own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ask(check: Check, question: Question, limits: Limits) -> Answer:
    match check.kind:
        case CheckKind.PROMETHEUS:
            return judge_samples(check, query_samples(check, limits))
        case CheckKind.ALERTS:
            return judge_alerts(check, alert_rules(check, limits))
        case CheckKind.WEBHOOK:
            return post(check, question, limits)
        case CheckKind.MANUAL:
            raise Permanent(f"check {check.name} is reported by a person")
        case _:
            assert_never(check.kind)
