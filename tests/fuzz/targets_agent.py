"""What an agent reads: its controller's messages, its own files, its configuration, and its programs' lines."""

import atexit
import json
import math
import shutil
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from drawing import Draw, as_text
from google.protobuf.message import DecodeError
from promised import Target

from agent import settings
from agent.adapters.host.boots import BootMarkFile
from agent.adapters.host.kmsg import KernelLogPosition
from agent.adapters.network import enrollment
from agent.adapters.state import credentials
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.leftovers import LeftoversFile
from agent.adapters.state.spool import ReportSpool
from agent.adapters.wire import messages
from agent.boot import request
from agent.boot.main import parser
from agent.boot.values import BootError
from agent.domain.errors import ConfigError, EnrollmentError, ProtocolViolation, RigError
from agent.domain.session import commands
from agent.domain.session.session import CommandReceived, SessionState, react
from agent.domain.work import exercises
from agent.domain.work.leftovers import MadeFile
from protos.kernroll.v1 import agent_pb2

_FOLDER = Path(tempfile.mkdtemp(prefix="kernroll-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
# The same every time, so that a committed answer fits it.
_KEY = ec.derive_private_key(12345, ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
_OPTIONS = (
    exercises.SweepOptions,
    exercises.FillOptions,
    exercises.IntegrityOptions,
    exercises.ChurnOptions,
    exercises.WatchOptions,
    exercises.SwitchOptions,
)


def _obeyed(sent: list[agent_pb2.ControllerMessage]) -> None:
    """Take what a controller says, as a session does, until it says goodbye."""
    state, book = SessionState(), commands.CommandBook()
    for message in sent:
        told = messages.incoming(message)
        reaction = react(state, told)
        state = reaction.state
        assert 0 <= state.heartbeat_interval_s <= 300 and math.isfinite(state.retry_after_s)
        assert state.retry_after_s >= 0
        if isinstance(told, CommandReceived):
            assert 0 < told.command.timeout_s < math.inf
        if reaction.ask is not None:
            assert 0 < reaction.ask.timeout_s <= 600 and len(reaction.ask.arguments) <= 32
        if reaction.obey is not None:
            decision = commands.decide(book, reaction.obey, boot_id="b", kernel_release="7", unable="")
            for record in decision.records:
                book = commands.apply(book, record)


def _controller_bytes(data: bytes) -> None:
    welcome = agent_pb2.ControllerMessage(welcome=agent_pb2.Welcome(protocol_version=1, epoch=1))
    _obeyed([welcome, agent_pb2.ControllerMessage.FromString(data)])


def _controller_messages(data: bytes) -> None:
    draw = Draw(data, ("u1/a/0", "u1/a/1", "mm/swapfile.o", "/dev/ram0", "/srv/linux", "mm/uffd-unit-tests"))
    sent = []
    if draw.byte() % 4:
        sent.append(agent_pb2.ControllerMessage(welcome=agent_pb2.Welcome(protocol_version=1, epoch=1)))
    while draw.left and len(sent) < 12:
        made = draw.message(agent_pb2.ControllerMessage)
        if made.WhichOneof("body") == "command" and draw.byte() % 2:
            made.command.run_workload.CopyFrom(draw.message(agent_pb2.RunWorkload))
            made.command.run_workload.repetitions = 1 + draw.below(4)
        sent.append(agent_pb2.ControllerMessage.FromString(made.SerializeToString()))
    _obeyed(sent)


def _state(data: bytes) -> None:
    """Read one file of the agent's own, of which the first byte says which it is; what is read can be written again."""
    folder = _FOLDER / "state"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = data[1:]
    match data[:1]:
        case b"j":
            (folder / "journal").write_bytes(content)
            book = CommandJournal(folder / "journal").book
            assert CommandJournal(folder / "journal").book == book
        case b"k":
            (folder / "kmsg").write_bytes(content)
            assert KernelLogPosition(folder / "kmsg", "b").load() >= -1
        case b"l":
            (folder / "leftovers").write_bytes(content)
            kept = LeftoversFile(folder / "leftovers", "b")
            noted = kept.noted()
            kept.note(MadeFile(path="/x"))
            assert len(kept.noted()) >= len({one.leftover for one in noted})
        case b"s":
            spool = folder / "spool"
            spool.mkdir()
            for number, part in enumerate(content.split(b"\n====\n")[:8], 1):
                (spool / f"{number:012d}.report").write_bytes(part)
            for entry in ReportSpool(spool).queue.entries:
                assert entry.report_id
        case b"b":
            (folder / "boot").write_bytes(content)
            file = BootMarkFile(folder / "boot")
            mark = file.load()
            if mark is not None:
                file.save(mark)
                assert file.load() == mark
        case _:
            for name in ("client.key", "client.crt", "ca.crt"):
                (folder / name).write_bytes(b"x")
            (folder / "enrollment.json").write_bytes(content)
            found = credentials.load(folder)
            if found is not None:
                credentials.check(found, host="a", now=1.8e9, state_dir=folder)


def _settings(data: bytes) -> None:
    path = _FOLDER / "agent.toml"
    path.write_bytes(data)
    settings.load(path)


def _token(data: bytes) -> None:
    token = credentials.parse_join_token(as_text(data))
    assert token.authority_pem.startswith(b"-----BEGIN CERTIFICATE-----")


def _enrolled(data: bytes) -> None:
    """An answer to enrollment: the certificate, then after a line of "=" the authority's."""
    certificate, _, authority = data.partition(b"====\n")
    response = agent_pb2.EnrollResponse(certificate_pem=certificate, authority_pem=authority or certificate)
    assert enrollment._credentials("a", _KEY, response).certificate_pem == certificate


def _exercises(data: bytes) -> None:
    """Lines between the agent and its programs: what is understood can be said again."""
    draw, line = Draw(data[:1]), data[1:]
    refused: ValueError | None = None
    for parse in (exercises.parse_event, exercises.parse_order):
        try:
            told = parse(line)
        except ValueError as error:
            refused = error
        else:
            json.loads(exercises.as_line(told))
    try:
        exercises.parse_options(draw.of(_OPTIONS), as_text(line))
    except ValueError as error:
        refused = error
    if refused is not None:
        raise refused


_STATE_WORDS = (
    *(
        'j{"kind": "accepted", ',
        '"kind": "epoch"',
        '"kind": "run_begun"',
        '"kind": "finished"',
        '"command_id": "u1/a/0"',
    ),
    *('"epoch": 1', '"version": 2', '"boot_id": "b"', '"sequence": 5', 'l[{"kind": "made_file"', '"path": "/x"', "\n"),
    *('"stopped": true', '"known": []', '"host": "a"', '"not_after": 2e9', "1e999", "NaN", "\\ud800", "9" * 30, "null"),
)
_TOML_WORDS = (
    *(
        'host = "a"',
        'controller = "127.0.0.1:7443"',
        'controller = ["',
        'join_token = "kr1.',
        "[labels]",
        "insecure = true",
    ),
    *('transport = "serial"', 'platform = "vm"', "[[", "'''", "1979-05-27", "\\u202e", "\x1b", "²"),
)


def _boot_request(data: bytes) -> None:
    taken = request.arguments_of(data)
    # What is taken is a command line, and no option of the program itself.
    given = parser().parse_args(taken)
    assert (given.root, given.output) == (Path("/"), "json")


TARGETS = (
    Target(
        name="boot-request",
        run=_boot_request,
        errors=(BootError,),
        words=('{"arguments": ["', '", "', '"]}', "arm", "revert", "--reboot", "--boot-timeout=", "--root=/", "7.1"),
    ),
    Target(
        name="controller-bytes",
        run=_controller_bytes,
        errors=(DecodeError, ProtocolViolation),
        words=("u1/a/0", "mm/swapfile.o"),
    ),
    Target(name="controller-messages", run=_controller_messages, errors=(ProtocolViolation,)),
    Target(
        name="agent-state",
        run=_state,
        errors=(ConfigError, EnrollmentError, RigError),
        stretched_bytes=1 << 14,
        words=_STATE_WORDS,
    ),
    Target(name="agent-settings", run=_settings, errors=(ConfigError,), words=_TOML_WORDS),
    Target(name="join-token", run=_token, errors=(ConfigError,), words=("kr1.", "eyJzZWNyZXQiOiJ4IiwiY2EiOiJZUT09In0")),
    Target(name="enrollment-answer", run=_enrolled, errors=(EnrollmentError,), words=("-----BEGIN CERTIFICATE-----",)),
    Target(
        name="exerciser-lines",
        run=_exercises,
        errors=(ValueError,),
        words=('{"kind": "', "ready", '"pid": 1', "usage", "swaps_seen", '"size_bytes": 1', "fill_up", "[1]", "1e999"),
    ),
)
