"""The operators' calls about hosts and kernels as a whole."""

from typing import Any

from controller.adapters.rpc.answering import answer
from controller.adapters.rpc.messages import epoch, to_message
from controller.domain.caller import Caller
from controller.services.operating.fleet import FleetOperations
from controller.views.hosts.fleet import FleetView
from protos.kernroll.v1 import fleet_pb2, fleet_pb2_grpc


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """See fleet.proto."""

    def __init__(self, operations: FleetOperations, *, plaintext: bool) -> None:
        self._operations = operations
        self._plaintext = plaintext

    async def LabelHost(self, request: Any, context: Any) -> fleet_pb2.HostLabels:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.HostLabels:
            labels = await self._operations.label(request.host, dict(request.labels), tuple(request.removed), by)
            return to_message(labels, fleet_pb2.HostLabels)

        return await answer(context, act, plaintext=self._plaintext)

    async def QuarantineHost(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            return _message(await self._operations.quarantine(request.name, request.remark, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def ReleaseHost(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            return _message(await self._operations.release(request.name, request.remark, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def ForgetHost(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            return _message(await self._operations.forget(request.name, request.remark, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def DenyKernel(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            return _message(await self._operations.deny(request.kernel, request.where, request.reason, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def AllowKernel(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            where = request.where if request.HasField("where") else None
            return _message(await self._operations.allow(request.kernel, where, request.remark, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def ImportInventory(self, request: Any, context: Any) -> fleet_pb2.InventoryDiff:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.InventoryDiff:
            hosts = {host: dict(one.labels) for host, one in request.hosts.items()}
            found = await self._operations.import_inventory(
                request.inventory, hosts, by, kept=request.kept, dry_run=request.dry_run
            )
            return to_message(found, fleet_pb2.InventoryDiff)

        return await answer(context, act, plaintext=self._plaintext)

    async def FreezeFleet(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            until = epoch(request.until) if request.HasField("until") else None
            return _message(await self._operations.freeze(request.remark, until, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def ThawFleet(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(by: Caller) -> fleet_pb2.Fleet:
            return _message(await self._operations.thaw(request.remark, by))

        return await answer(context, act, plaintext=self._plaintext)

    async def GetFleet(self, request: Any, context: Any) -> fleet_pb2.Fleet:
        """See fleet.proto."""

        async def act(_by: Caller) -> fleet_pb2.Fleet:
            return _message(self._operations.fleet())

        return await answer(context, act, plaintext=self._plaintext)

    async def GetFleetLog(self, request: Any, context: Any) -> fleet_pb2.FleetLog:
        """See fleet.proto."""

        async def act(_by: Caller) -> fleet_pb2.FleetLog:
            decisions = await self._operations.log(request.most)
            return fleet_pb2.FleetLog(decisions=[to_message(one, fleet_pb2.Decision) for one in decisions])

        return await answer(context, act, plaintext=self._plaintext)


def _message(view: FleetView) -> fleet_pb2.Fleet:
    return to_message(view, fleet_pb2.Fleet)
