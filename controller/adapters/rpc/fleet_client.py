"""Operators' calls about hosts and kernels as a whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.adapters.rpc.messages import from_message, timestamp
from controller.adapters.rpc.operator_client import CALL_TIMEOUT_S, OperatorClient
from controller.domain.errors import InvalidInput
from controller.views.hosts.fleet import FleetView, HostLabelsView, HostsView, InventoryDiffView
from controller.views.hosts.fleet_log import DecisionView
from controller.views.models import HostView
from protos.kernroll.v1 import fleet_pb2 as pb
from protos.kernroll.v1 import operator_pb2
from protos.kernroll.v1.fleet_pb2_grpc import FleetServiceStub

# What a controller takes in one message, less what surrounds it.
LARGEST_REQUEST_BYTES = 4 * 2**20 - 2**10


class FleetClient(OperatorClient):
    """Calls one controller; use as a context manager. Every method raises KernrollError only."""

    def __init__(self, address: str, *, client_dir: Path | None, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """See OperatorClient."""
        super().__init__(address, client_dir=client_dir, timeout_s=timeout_s)
        self._fleet_stub = FleetServiceStub(self._channel)

    def find_hosts(self, selector: str, where: str) -> HostsView:
        """Return the hosts that both select, and notes about others; raises InvalidInput for a bad expression."""
        answer = self._call(self._stub.ListHosts, operator_pb2.ListHostsRequest(selector=selector, where=where))
        return HostsView(tuple(from_message(host, HostView) for host in answer.hosts), tuple(answer.notes))

    def label_host(self, host: str, labels: Mapping[str, str], removed: Sequence[str]) -> HostLabelsView:
        """Set and take back labels; raises NotFound for a host or label that is not there."""
        request = pb.LabelHostRequest(host=host, labels=labels, removed=removed)
        return from_message(self._call(self._fleet_stub.LabelHost, request), HostLabelsView)

    def quarantine_host(self, name: str, remark: str) -> FleetView:
        """Leave a host out of rollouts; raises NotFound, or Conflict when it is already."""
        request = pb.ActOnHostRequest(name=name, remark=remark)
        return from_message(self._call(self._fleet_stub.QuarantineHost, request), FleetView)

    def release_host(self, name: str, remark: str) -> FleetView:
        """End a quarantine; raises Conflict when there is none."""
        request = pb.ActOnHostRequest(name=name, remark=remark)
        return from_message(self._call(self._fleet_stub.ReleaseHost, request), FleetView)

    def forget_host(self, name: str, remark: str) -> FleetView:
        """End what a host is known by; raises NotFound, or Conflict while a rollout has it in flight."""
        request = pb.ActOnHostRequest(name=name, remark=remark)
        return from_message(self._call(self._fleet_stub.ForgetHost, request), FleetView)

    def deny_kernel(self, kernel: str, *, where: str, reason: str) -> FleetView:
        """Keep a kernel from hosts; raises InvalidInput for a bad expression."""
        request = pb.DenyKernelRequest(kernel=kernel, where=where, reason=reason)
        return from_message(self._call(self._fleet_stub.DenyKernel, request), FleetView)

    def allow_kernel(self, kernel: str, *, where: str | None, remark: str) -> FleetView:
        """Take back the rules about a kernel, or the one with this expression; raises NotFound."""
        request = pb.AllowKernelRequest(kernel=kernel, where=where, remark=remark)
        return from_message(self._call(self._fleet_stub.AllowKernel, request), FleetView)

    def import_inventory(
        self, inventory: str, hosts: Mapping[str, Mapping[str, str]], kept: Sequence[str] = (), *, dry_run: bool
    ) -> InventoryDiffView:
        """Replace what an inventory says of its hosts, except of those to be kept.

        Raises InvalidInput for a bad label or another's host.
        """
        request = pb.ImportInventoryRequest(inventory=inventory, dry_run=dry_run, kept=kept)
        for host, labels in hosts.items():
            request.hosts[host].labels.update(labels)
        if request.ByteSize() > LARGEST_REQUEST_BYTES:
            raise InvalidInput(
                f"{inventory}: its labels take {request.ByteSize() >> 20} MiB, a controller takes "
                f"{LARGEST_REQUEST_BYTES >> 20}: split it into inventories of a site each"
            )
        answer = self._call(self._fleet_stub.ImportInventory, request)
        return from_message(answer, InventoryDiffView)

    def freeze_fleet(self, remark: str, until: float | None) -> FleetView:
        """Let no rollout admit hosts, until then or until somebody thaws it."""
        request = pb.FreezeFleetRequest(remark=remark, until=None if until is None else timestamp(until))
        return from_message(self._call(self._fleet_stub.FreezeFleet, request), FleetView)

    def thaw_fleet(self, remark: str) -> FleetView:
        """End a freeze; raises Conflict when there is none."""
        return from_message(self._call(self._fleet_stub.ThawFleet, pb.ThawFleetRequest(remark=remark)), FleetView)

    def get_fleet(self) -> FleetView:
        """Return what operators have decided."""
        return from_message(self._call(self._fleet_stub.GetFleet, pb.GetFleetRequest()), FleetView)

    def get_fleet_log(self, most: int) -> tuple[DecisionView, ...]:
        """Return the newest decisions, oldest first."""
        answer = self._call(self._fleet_stub.GetFleetLog, pb.GetFleetLogRequest(most=most))
        return tuple(from_message(one, DecisionView) for one in answer.decisions)
