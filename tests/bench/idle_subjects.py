"""The processes whose idle cost is compared: agents as they are installed, and their peers."""

import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from peers import ROOT

from controller.adapters.rpc.operator_client import OperatorClient
from controller.lab.demo import ControllerProcess, free_port

HERE = Path(__file__).resolve().parent
# What a Prometheus that is left at its defaults' usual setting does.
SCRAPE_INTERVAL_S = 15.0
# A controller's default.
HEARTBEAT_S = 10.0
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.1
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Subject:
    """A process that is measured."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> SystemExit:
        """Return the complaint that it is not there any more."""
        tail = "\n  ".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return SystemExit(f"{self.name} ended (status {self.process.poll()}); the end of its log:\n  {tail}")


class World:
    """A controller on the loopback interface, and what is started beside it; all in one directory."""

    def __init__(self, directory: Path, python: str) -> None:
        self.directory = directory
        # The interpreter that agents, and the client beside them, run in.
        self.python = python
        self.controller = ControllerProcess(directory, heartbeat_s=HEARTBEAT_S)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the controller."""
        self.controller.start()
        try:
            yield
        finally:
            self.controller.stop()

    @contextmanager
    def agent(self, name: str) -> Iterator[Subject]:
        """Run `kernroll-agent serve` as a host of this controller, enrolled once; yield it when it is connected."""
        config = self.directory / f"{name}.toml"
        if not config.exists():
            with self._client() as client:
                token = client.create_join_token(uses=1, valid_s=600).token
            config.write_text(
                f'host = "{name}"\ncontroller = "{self.controller.address}"\n'
                f'enroll = "127.0.0.1:{self.controller.enroll_port}"\njoin_token = "{token}"\n'
                f'state_dir = "{self.directory / name}"\n'
            )
        with self._agent("kernroll-agent", config) as subject:
            until(f"{name} connects", lambda: self._connected(name), subject)
            yield subject

    @contextmanager
    def lone_agent(self) -> Iterator[Subject]:
        """Run an agent whose controller is away: it tries again and again."""
        config = self.directory / "lone.toml"
        config.write_text(
            f'host = "lone"\ncontroller = "127.0.0.1:{free_port()}"\ninsecure = true\n'
            f'state_dir = "{self.directory / "lone"}"\n'
        )
        with self._agent("kernroll-agent, controller away", config) as subject:
            until("its first attempt fails", lambda: b"session_lost" in subject.log.read_bytes(), subject)
            yield subject

    @contextmanager
    def bare_stream(self) -> Iterator[Subject]:
        """Run a client that only holds a stream open."""
        command = (self.python, str(HERE / "idle_stream.py"), self.controller.address)
        with self._running("bare grpc.aio client, one stream", (*command, str(self.controller.client_dir))) as subject:
            until("the stream is open", lambda: b"watching" in subject.log.read_bytes(), subject)
            yield subject

    @contextmanager
    def exporter(self, binary: str, *, scraped: bool) -> Iterator[Subject]:
        """Run node exporter with Debian's defaults; something may fetch its metrics as Prometheus would."""
        port = free_port()
        name = f"node exporter, {f'scraped every {SCRAPE_INTERVAL_S:g} s' if scraped else 'not scraped'}"
        url = f"http://127.0.0.1:{port}/metrics"
        with self._running(name, (binary, f"--web.listen-address=127.0.0.1:{port}")) as subject:
            until("it answers", lambda: _fetched(url), subject)
            with _scraping(url) if scraped else nullcontext():
                yield subject

    def _agent(self, name: str, config: Path) -> AbstractContextManager[Subject]:
        return self._running(name, (self.python, "-m", "agent.main", "serve", "--config", str(config)))

    def _running(self, name: str, command: tuple[str, ...]) -> AbstractContextManager[Subject]:
        log = self.directory / f"{re.sub(r'[^a-z]+', '-', name)}.log"
        return _running(name, command, log)

    def _client(self) -> OperatorClient:
        return OperatorClient(self.controller.address, client_dir=self.controller.client_dir, timeout_s=10.0)

    def _connected(self, name: str) -> bool:
        with self._client() as client:
            return any(host.name == name and host.connected for host in client.list_hosts())


@contextmanager
def _running(name: str, command: tuple[str, ...], log: Path) -> Iterator[Subject]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield Subject(name, process, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_TIMEOUT_S)


def until(what: str, look: Callable[[], _Found], subject: Subject) -> _Found:
    """Return what `look` finds once that is true. Raises SystemExit when the process ends first, or takes too long."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (found := look()):
        if subject.process.poll() is not None:
            raise subject.ended()
        if time.monotonic() > deadline:
            raise SystemExit(f"{subject.name}: not within {_START_TIMEOUT_S:g} s: {what}; its log is {subject.log}")
        pause(_LOOK_EVERY_S)
    return found


def pause(seconds: float) -> None:
    """Let real processes go on for a while."""
    threading.Event().wait(seconds)


@contextmanager
def _scraping(url: str) -> Iterator[None]:
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_INTERVAL_S):
            _fetched(url)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _fetched(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.read())
    except OSError:
        return False
