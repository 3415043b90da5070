"""Operators' calls to a controller: mutual TLS, a deadline on every call, and errors in words."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from controller.adapters.local.clock import SystemClock
from controller.adapters.rpc.client_files import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    ClientFiles,
    expired,
    read_client_files,
    signing_request,
    write_renewed,
)
from controller.adapters.rpc.messages import NUMBERS, epoch, from_message
from controller.domain.bounds import digits
from controller.domain.errors import Conflict, InvalidInput, KernrollError, NotFound, Permanent, Temporary
from controller.domain.record.control import Verb
from controller.views.gate.replayed import ReplayView
from controller.views.models import (
    CertificateView,
    Epoch,
    ExplanationView,
    HostView,
    JoinTokenView,
    LedgerView,
    ReportView,
    RolloutLogView,
    RolloutView,
)
from controller.views.plan_models import PlanView
from protos.kernroll.v1 import operator_pb2 as pb
from protos.kernroll.v1.operator_pb2_grpc import OperatorServiceStub

# The name in every controller's certificate, whatever address it is reached at.
SERVER_NAME = "kernroll-controller"

CALL_TIMEOUT_S = 30.0
# Planning and starting may have to fetch kernels first.
FETCH_TIMEOUT_S = 900.0

# gRPC's own words for a connection that failed; an UNAVAILABLE without them was said by the controller.
_NO_CONNECTION = (
    "connect",
    "Socket closed",
    "Connection reset",
    "Broken pipe",
    "GOAWAY",
    "recvmsg",
    "shutdown",
    "closed",
)

_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
    # Notices a controller whose machine is gone. A server tolerates one ping in five minutes without being told more.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


class Unreachable(Temporary):
    """No controller that we can talk to answers at the address."""


class TimedOut(Temporary):
    """The controller took the call and did not answer by the deadline."""


class OperatorClient:
    """Calls one controller; use as a context manager. Every method raises KernrollError only."""

    def __init__(
        self,
        address: str,
        *,
        client_dir: Path | None,
        timeout_s: float = CALL_TIMEOUT_S,
        fetch_timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        """Prepare calls to `address` ("host:port") with the certificate in `client_dir`.

        None speaks plain text, which only a loopback address may be asked to. No connection is made yet.
        """
        self.address = address
        self._timeout_s = timeout_s
        self._fetch_timeout_s = fetch_timeout_s
        self._files: ClientFiles | None = None
        _check_address(address)
        if client_dir is None:
            _require_loopback(address)
            self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            options = [*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME)]
            self._files = _files(client_dir)
            credentials = grpc.ssl_channel_credentials(
                root_certificates=self._files.authority,
                private_key=self._files.key,
                certificate_chain=self._files.certificate,
            )
            self._channel = grpc.secure_channel(address, credentials, options=options)
        self._stub = OperatorServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def list_hosts(self, selector: str = "") -> tuple[HostView, ...]:
        """Return the enrolled hosts that match "name=value,…", by name; empty matches all."""
        answer = self._call(self._stub.ListHosts, pb.ListHostsRequest(selector=selector))
        return tuple(from_message(host, HostView) for host in answer.hosts)

    def get_host(self, name: str) -> HostView:
        """Return one host; raises NotFound."""
        return from_message(self._call(self._stub.GetHost, pb.GetHostRequest(name=name)), HostView)

    def plan_rollout(self, spec_yaml: str, file_name: str, *, aa: bool = False) -> PlanView:
        """Return what the rollout would do; raises InvalidInput for a bad spec. Changes nothing."""
        request = pb.PlanRolloutRequest(spec_yaml=spec_yaml, file_name=file_name, aa=aa)
        return from_message(self._call(self._stub.PlanRollout, request, self._fetch_timeout_s), PlanView)

    def start_rollout(self, spec_yaml: str, file_name: str, *, aa: bool = False) -> RolloutView:
        """Start the rollout, old against old with `aa`.

        Raises InvalidInput for a bad spec, Conflict for a plan with blockers or a used name.
        """
        request = pb.StartRolloutRequest(spec_yaml=spec_yaml, file_name=file_name, aa=aa)
        return from_message(self._call(self._stub.StartRollout, request, self._fetch_timeout_s), RolloutView)

    def list_rollouts(self) -> tuple[RolloutView, ...]:
        """Return all rollouts."""
        answer = self._call(self._stub.ListRollouts, pb.ListRolloutsRequest())
        return tuple(from_message(rollout, RolloutView) for rollout in answer.rollouts)

    def get_rollout(self, name: str) -> RolloutView:
        """Return one rollout; raises NotFound."""
        return from_message(self._call(self._stub.GetRollout, pb.GetRolloutRequest(name=name)), RolloutView)

    def watch_rollout(self, name: str, timeout_s: float) -> Iterator[RolloutView]:
        """Yield the rollout at once and after every change until it ends; raises TimedOut after `timeout_s`."""
        with self._translated("WatchRollout", timeout_s):
            call: Any = self._stub.WatchRollout(pb.GetRolloutRequest(name=name), timeout=timeout_s)
            try:
                for message in call:
                    yield from_message(message, RolloutView)
            finally:
                call.cancel()

    def control_rollout(self, name: str, verb: Verb, remark: str = "", **options: Any) -> RolloutView:
        """Ask a verb of a rollout, with the fields of ControlRolloutRequest as options.

        Raises NotFound, InvalidInput, or Conflict with what its state allows instead.
        """
        request = pb.ControlRolloutRequest(name=name, verb=NUMBERS[verb], remark=remark, **options)
        return from_message(self._call(self._stub.ControlRollout, request), RolloutView)

    def report_check(self, name: str, check: str, *, passed: bool, remark: str = "") -> RolloutView:
        """Say whether a manual check passes; raises NotFound, or Conflict when nobody waits for it now."""
        request = pb.ReportCheckRequest(name=name, check=check, passed=passed, remark=remark)
        return from_message(self._call(self._stub.ReportCheck, request), RolloutView)

    def explain_rollout(self, name: str) -> ExplanationView:
        """Return why the rollout is in its state; raises NotFound."""
        return from_message(self._call(self._stub.ExplainRollout, pb.GetRolloutRequest(name=name)), ExplanationView)

    def report_rollout(self, name: str, *beside: str) -> ReportView:
        """Return the before/after report, with the tests of rollouts beside it in its cover letter; raises NotFound."""
        request = pb.ReportRolloutRequest(name=name, beside=beside)
        return from_message(self._call(self._stub.ReportRollout, request, self._fetch_timeout_s), ReportView)

    def rollout_log(self, name: str, *, host: str = "", most: int = 0) -> RolloutLogView:
        """Return the newest lines of the rollout's log, of one host alone when one is named; raises NotFound."""
        request = pb.GetRolloutLogRequest(name=name, host=host, most=most)
        return from_message(self._call(self._stub.GetRolloutLog, request), RolloutLogView)

    def replay_gate(self, name: str, claims: Mapping[str, float], margins: Mapping[str, float]) -> ReplayView:
        """Return the rollout's log judged again; raises NotFound, and InvalidInput for what it does not judge."""
        request = pb.ReplayGateRequest(name=name, claims=claims, margins=margins)
        return from_message(self._call(self._stub.ReplayGate, request, self._fetch_timeout_s), ReplayView)

    def get_ledger(self) -> LedgerView:
        """Return what is known of the noise of measurements."""
        return from_message(self._call(self._stub.GetLedger, pb.GetLedgerRequest()), LedgerView)

    def create_join_token(self, *, uses: int, valid_s: float) -> JoinTokenView:
        """Return a token with which `uses` hosts can enroll during the next `valid_s` seconds."""
        request = pb.CreateJoinTokenRequest(uses=uses, valid_s=valid_s)
        return from_message(self._call(self._stub.CreateJoinToken, request), JoinTokenView)

    def renew_certificate(self) -> CertificateView:
        """Put a newer certificate for the same key in the place of the one that this client calls with."""
        if self._files is None:
            raise InvalidInput("--insecure: plain text has no certificate to renew")
        request = pb.RenewOperatorRequest(certificate_signing_request_pem=signing_request(self._files))
        answer = self._call(self._stub.RenewOperator, request)
        try:
            write_renewed(self._files, answer.certificate_pem, answer.authority_pem)
        except OSError as error:
            raise Permanent(f"{self._files.directory}: cannot be written: {error.strerror}") from error
        return CertificateView(str(self._files.directory / CERTIFICATE_FILE), Epoch(epoch(answer.not_after)))

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float | None = None) -> Any:
        deadline_s = self._timeout_s if timeout_s is None else timeout_s
        with self._translated(type(request).__name__.removesuffix("Request"), deadline_s):
            return method(request, timeout=deadline_s)

    @contextmanager
    def _translated(self, verb: str, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            said = translate(error, address=self.address, verb=verb, timeout_s=timeout_s)
            # A certificate that has expired is refused in the handshake, which gRPC tells as a closed connection.
            if isinstance(said, Unreachable) and self._files and (why := expired(self._files, SystemClock().now())):
                said = Permanent(why)
            raise said from error


def translate(error: grpc.RpcError, *, address: str, verb: str, timeout_s: float) -> KernrollError:
    """Return a failed call in words: what failed, which controller, and what to try."""
    # What a call raises is a grpc.Call as well.
    code: grpc.StatusCode = error.code()
    text = " ".join((error.details() or "").split())
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            # A bad spec has one line for every problem.
            return InvalidInput(error.details() or "the controller refused the input without saying why")
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(text)
        case grpc.StatusCode.ALREADY_EXISTS | grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ABORTED:
            return Conflict(error.details() or text)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimedOut(f"{verb}: the controller at {address} did not answer within {timeout_s:g} s; try again")
        case grpc.StatusCode.UNIMPLEMENTED:
            return Permanent(
                f"the controller at {address} does not know {verb}: it is the port where hosts enroll, or it "
                "speaks another version of the protocol; check --controller, and use a kernroll of its version"
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return Permanent(f"the controller at {address} refuses {verb} to this certificate: {text}")
        case grpc.StatusCode.UNAVAILABLE:
            return _unavailable(address, text)
        case grpc.StatusCode.CANCELLED:
            return Unreachable(f"{verb}: the controller at {address} ended the call; try again")
        case _:
            return Permanent(f"{verb} failed on the controller at {address}: {text} ({code.name}); its log has more")


def _unavailable(address: str, text: str) -> KernrollError:
    if "Expected SETTINGS frame" in text or "WRONG_VERSION_NUMBER" in text or "http1" in text:
        return Permanent(
            f"what answers at {address} does not speak kernroll's protocol (gRPC over TLS): check --controller, and "
            "--insecure for a controller that serves plain text"
        )
    if "expired" in text:
        return Permanent(f"the certificate at {address} has expired; restart that controller, it makes a new one")
    if "handshake failed" in text or "Hostname Verification" in text:
        return Permanent(
            f"the certificate at {address} was not made by the authority in {AUTHORITY_FILE}: another controller "
            "answers there, or --client-dir belongs to another one"
        )
    if "Socket closed" in text and "failed to connect" in text:
        return Unreachable(
            f"the connection to {address} was closed during the handshake: the controller does not accept this "
            "certificate (--client-dir; it may have expired), or only one side speaks plain text (--insecure)"
        )
    if "resolving" in text or "lookup" in text:
        host = address.rpartition(":")[0]
        return Unreachable(f"{address}: the name {host} cannot be resolved; check --controller")
    if not any(sign in text for sign in _NO_CONNECTION):
        return Temporary(text)
    return Unreachable(
        f"no controller answers at {address}; start one with `kernroll controller serve` or set --controller"
    )


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not 0 < (digits(port) or 0) < 65_536:
        raise InvalidInput(f"--controller: {address!r} must be host:port, for example 127.0.0.1:7443")


def _require_loopback(address: str) -> None:
    host = address.rpartition(":")[0].strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise InvalidInput(f"--insecure: {address} is not a loopback address; plain text never leaves the machine")


def _files(client_dir: Path) -> ClientFiles:
    for name in (AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE):
        if not (client_dir / name).exists():
            raise Unreachable(
                f"no operator certificate: {client_dir / name} is not there; `kernroll controller serve` makes one on "
                "its first start, or set --client-dir to a directory that has it"
            )
    return read_client_files(client_dir)
