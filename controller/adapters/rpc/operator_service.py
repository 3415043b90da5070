"""The operators' service: each call checks who asks, does it, and translates errors into gRPC's codes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from controller.adapters.rpc.answering import abort, answer
from controller.adapters.rpc.identity import key_digest_of, operator_of
from controller.adapters.rpc.messages import VERBS, to_message
from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.errors import Conflict, InvalidInput, KernrollError, Permanent
from controller.services.agents.enrollment import Enrollment
from controller.services.operating.rollouts import Operations
from protos.kernroll.v1 import operator_pb2, operator_pb2_grpc

T = TypeVar("T")


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """See operator.proto."""

    def __init__(self, operations: Operations, enrollment: Enrollment, *, plaintext: bool) -> None:
        self._operations = operations
        self._enrollment = enrollment
        self._plaintext = plaintext

    async def ListHosts(self, request: Any, context: Any) -> operator_pb2.ListHostsResponse:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.ListHostsResponse:
            found = self._operations.hosts(request.selector, request.where)
            hosts = [to_message(host, operator_pb2.Host) for host in found.hosts]
            return operator_pb2.ListHostsResponse(hosts=hosts, notes=found.notes)

        return await self._answer(context, act)

    async def GetHost(self, request: Any, context: Any) -> operator_pb2.Host:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.Host:
            return to_message(self._operations.host(request.name), operator_pb2.Host)

        return await self._answer(context, act)

    async def PlanRollout(self, request: Any, context: Any) -> operator_pb2.Plan:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.Plan:
            plan = await self._operations.plan(request.spec_yaml, request.file_name, aa=request.aa)
            return to_message(plan, operator_pb2.Plan)

        return await self._answer(context, act)

    async def StartRollout(self, request: Any, context: Any) -> operator_pb2.Rollout:
        """See operator.proto."""

        async def act(by: Caller) -> operator_pb2.Rollout:
            started = await self._operations.start(request.spec_yaml, request.file_name, by, aa=request.aa)
            return to_message(started, operator_pb2.Rollout)

        return await self._answer(context, act)

    async def ListRollouts(self, request: Any, context: Any) -> operator_pb2.ListRolloutsResponse:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.ListRolloutsResponse:
            rollouts = [to_message(rollout, operator_pb2.Rollout) for rollout in self._operations.rollouts()]
            return operator_pb2.ListRolloutsResponse(rollouts=rollouts)

        return await self._answer(context, act)

    async def GetRollout(self, request: Any, context: Any) -> operator_pb2.Rollout:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.Rollout:
            return to_message(self._operations.rollout(request.name), operator_pb2.Rollout)

        return await self._answer(context, act)

    async def WatchRollout(self, request: Any, context: Any) -> AsyncIterator[operator_pb2.Rollout]:
        """See operator.proto."""
        try:
            operator_of(context, plaintext=self._plaintext)
        except Permanent as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        try:
            async for view in self._operations.watch(request.name):
                yield to_message(view, operator_pb2.Rollout)
        except KernrollError as error:
            await abort(context, error)

    async def ControlRollout(self, request: Any, context: Any) -> operator_pb2.Rollout:
        """See operator.proto."""

        async def act(by: Caller) -> operator_pb2.Rollout:
            if request.verb not in VERBS:
                raise InvalidInput(f"verb {request.verb} is not known here")
            wanted = Request(
                by=by,
                verb=VERBS[request.verb],
                remark=request.remark,
                hosts=tuple(request.hosts),
                full=request.full,
                skip=request.skip,
                emergency=request.emergency,
            )
            return to_message(await self._operations.control(request.name, wanted), operator_pb2.Rollout)

        return await self._answer(context, act)

    async def ReportCheck(self, request: Any, context: Any) -> operator_pb2.Rollout:
        """See operator.proto."""

        async def act(by: Caller) -> operator_pb2.Rollout:
            after = await self._operations.report_check(
                request.name, request.check, passed=request.passed, by=by, remark=request.remark
            )
            return to_message(after, operator_pb2.Rollout)

        return await self._answer(context, act)

    async def ExplainRollout(self, request: Any, context: Any) -> operator_pb2.Explanation:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.Explanation:
            return to_message(self._operations.explain(request.name), operator_pb2.Explanation)

        return await self._answer(context, act)

    async def ReportRollout(self, request: Any, context: Any) -> operator_pb2.RolloutReport:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.RolloutReport:
            made = await self._operations.report(request.name, tuple(request.beside))
            return to_message(made, operator_pb2.RolloutReport)

        return await self._answer(context, act)

    async def GetRolloutLog(self, request: Any, context: Any) -> operator_pb2.RolloutLog:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.RolloutLog:
            found = await self._operations.log(request.name, host=request.host, most=request.most)
            return to_message(found, operator_pb2.RolloutLog)

        return await self._answer(context, act)

    async def ReplayGate(self, request: Any, context: Any) -> operator_pb2.Replay:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.Replay:
            replayed = await self._operations.replay(request.name, dict(request.claims), dict(request.margins))
            return to_message(replayed, operator_pb2.Replay)

        return await self._answer(context, act)

    async def GetLedger(self, request: Any, context: Any) -> operator_pb2.Ledger:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.Ledger:
            return to_message(await self._operations.ledger(), operator_pb2.Ledger)

        return await self._answer(context, act)

    async def CreateJoinToken(self, request: Any, context: Any) -> operator_pb2.JoinToken:
        """See operator.proto."""

        async def act(_by: Caller) -> operator_pb2.JoinToken:
            token = await self._enrollment.create_token(request.uses or 1, request.valid_s or 3600.0)
            return operator_pb2.JoinToken(token=token)

        return await self._answer(context, act)

    async def RenewOperator(self, request: Any, context: Any) -> operator_pb2.OperatorCertificate:
        """See operator.proto."""

        async def act(by: Caller) -> operator_pb2.OperatorCertificate:
            if self._plaintext:
                raise Conflict("there are no certificates in plain text")
            pem = request.certificate_signing_request_pem
            signed = self._enrollment.renew_operator(by.name, key_digest_of(context), pem)
            answer = operator_pb2.OperatorCertificate(
                certificate_pem=signed.certificate_pem, authority_pem=self._enrollment.authority_pem
            )
            answer.not_after.FromMilliseconds(int(signed.not_after * 1000))
            return answer

        return await self._answer(context, act)

    async def _answer(self, context: Any, act: Callable[[Caller], Awaitable[T]]) -> T:
        """Check who asks, act, and abort the call with a sentence when it cannot be done."""
        return await answer(context, act, plaintext=self._plaintext)
