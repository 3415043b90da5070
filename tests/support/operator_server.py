"""An operator service with answers made beforehand, behind mutual TLS on the loopback interface."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from controller.adapters.pki.certificates import open_authority, write_operator
from protos.kernroll.v1 import operator_pb2, operator_pb2_grpc

# The certificates are valid from about now on the machine's own clock, so the tests' authority needs it, too.
Answer = Any


class OperatorServer(operator_pb2_grpc.OperatorServiceServicer):
    """Answers each call with what is in `answers`: a message, a function of the request, or a status with details."""

    def __init__(self) -> None:
        """Begin without answers: every call is unknown."""
        self.answers: dict[str, Answer] = {}
        self.requests: list[Any] = []
        # Messages or statuses of one WatchRollout after the other.
        self.watches: list[list[Any]] = []
        # Set to let a watch that has sent everything end; until then it stays open.
        self.release = threading.Event()
        self.address = ""
        self.client_dir = Path()

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        answer = self.answers.get(name, (grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
        if isinstance(answer, tuple):
            context.abort(*answer)
        return answer(request) if callable(answer) else answer

    def WatchRollout(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Send the next script."""
        self.requests.append(request)
        for message in self.watches.pop(0):
            if isinstance(message, tuple):
                context.abort(*message)
            yield message
        stopped = threading.Event()
        context.add_callback(stopped.set)
        while not (self.release.is_set() or stopped.is_set()):
            stopped.wait(0.05)


def _unary(name: str) -> Callable[..., Any]:
    def call(self: OperatorServer, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(name, request, context)

    return call


for _name in operator_pb2.DESCRIPTOR.services_by_name["OperatorService"].methods_by_name:
    if _name != "WatchRollout":
        setattr(OperatorServer, _name, _unary(_name))
OperatorServer.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # the methods were added above


@contextmanager
def operator_server(directory: Path, now: float) -> Iterator[OperatorServer]:
    """Serve with an authority of its own; `client_dir` holds an operator's certificate."""
    authority = open_authority(directory / "authority", now)
    identity = authority.server(("127.0.0.1",), now)
    service = OperatorServer()
    service.client_dir = directory / "client"
    write_operator(service.client_dir, authority.operator("tester", now))
    server = grpc.server(futures.ThreadPoolExecutor(4))
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(service, server)
    pair = [(identity.key_pem, identity.certificate_pem)]
    credentials = grpc.ssl_server_credentials(pair, authority.certificate_pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    service.address = f"127.0.0.1:{port}"
    try:
        yield service
    finally:
        service.release.set()
        server.stop(grace=None).wait(5)
