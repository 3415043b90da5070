"""Files and answers that machines give the controller: kernels, packages, supervisors, consoles, servers, requests."""

import atexit
import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import requests
import urllib3
from drawing import all_printable, as_text
from promised import Target
from requests.adapters import HTTPAdapter

from controller.adapters.checks import prometheus, webhook
from controller.adapters.delivery.hypervisor.definition import load_definition
from controller.adapters.delivery.hypervisor.protocol import decode_answer, decode_request
from controller.adapters.delivery.hypervisor.supervising.console import panic_line, telling_line
from controller.adapters.delivery.hypervisor.supervising.journal import Journal, read_journal
from controller.adapters.delivery.hypervisor.supervising.state import fold, status
from controller.adapters.kernels.debian.archives import unpack
from controller.adapters.kernels.image import read_image
from controller.adapters.kernels.modules import fingerprint, require_modules
from controller.adapters.kernels.store import KernelStore
from controller.adapters.kernels.unpacking import extract
from controller.adapters.local.bounded_http import Limits
from controller.adapters.local.cache import Cache
from controller.adapters.pki.certificates import Authority, open_authority, operator_is_stale, write_operator
from controller.adapters.power.address import Managed, parse_address
from controller.adapters.power.ipmi import Ipmi
from controller.adapters.power.redfish import Redfish
from controller.adapters.rpc.client_files import expired, read_client_files, signing_request, write_renewed
from controller.domain.errors import InvalidInput, NotFound, OutcomeUnknown, Permanent, Temporary
from controller.domain.record.checks import Check, CheckKind, Question
from controller.gate.kernel_log import classify
from controller.gate.kernel_log import panic_line as told_panic

_FOLDER = Path(tempfile.mkdtemp(prefix="kernroll-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_OUTSIDE = _FOLDER / "outside"
_OUTSIDE.mkdir()
_AUTHORITY: Authority = open_authority(_FOLDER / "authority", 1.8e9)
_CHECK = Check(name="c", kind=CheckKind.WEBHOOK, url="http://127.0.0.1:9", query="up", every_s=1.0, deadline_s=1.0)
_REDFISH = Redfish(
    Managed(address=parse_address("redfish://127.0.0.1/redfish/v1/Systems/1"), user="u", password="p", verify=False)
)
_IPMI = Ipmi(Managed(address=parse_address("ipmi://127.0.0.1"), user="u", password="p"))
_QUESTION = Question(
    id="q",
    check="c",
    rollout="r",
    wave=1,
    waves=1,
    hosts=("a",),
    kernels={},
    verdict="pass",
    sentence="s",
)
# PATH_MAX of Linux, less what stands before.
_MOST_PATH = 4000
_DIGEST = "0123456789abcdef" * 4


def _kernel_log(data: bytes) -> None:
    text = as_text(data)
    for found in classify(text.split("\n")):
        all_printable(found.line, found.signature)
    all_printable(told_panic(text) or "")


def _console(data: bytes) -> None:
    text = as_text(data)
    for line in (panic_line(text), telling_line(text)):
        all_printable(line)
        assert len(line) <= 300


def _protocol(data: bytes) -> None:
    decode_request(data)


def _answer(data: bytes) -> None:
    told = decode_answer(data, "host a")
    assert told.revision >= 0


def _journal(data: bytes) -> None:
    (_FOLDER / "journal").write_bytes(data)
    records = read_journal(_FOLDER)
    state = fold(records)
    status(state, "a")
    # What was torn is cut off once, and what is left means the same.
    journal = Journal(_FOLDER)
    journal.close()
    assert read_journal(_FOLDER) == journal.records == records


def _definition(data: bytes) -> None:
    (_FOLDER / "vm.json").write_bytes(data)
    load_definition(_FOLDER)


def _image(data: bytes) -> None:
    image = read_image(data, "vmlinuz")
    assert image.architecture in ("x86_64", "arm64")
    all_printable(image.release)


def _tar(data: bytes) -> None:
    tree = _FOLDER / "tree"
    try:
        extract(io.BytesIO(data), tree, "a.deb")
    finally:
        _gone(tree)
        assert not os.listdir(_OUTSIDE)


def _package(data: bytes) -> None:
    tree, package = _FOLDER / "tree", _FOLDER / "a.deb"
    package.write_bytes(data)
    try:
        unpack([package], tree, lambda *_: None, label="a")
    finally:
        _gone(tree)


def _modules(data: bytes) -> None:
    """Make a tree of the names in the input: "name" a file, "name/" a folder, "name>target" a link."""
    tree = _FOLDER / "modules"
    tree.mkdir()
    try:
        for line in data.split(b"\n")[:64]:
            name, link, target = line.partition(b">")
            path = os.path.join(os.fsencode(tree), name.replace(b"\0", b"").lstrip(b"/"))
            # What no tree can hold is left out, and nothing is made outside of it.
            if b".." in name.split(b"/") or len(path) > _MOST_PATH:
                continue
            with contextlib.suppress(OSError, ValueError):
                os.makedirs(path if name.endswith(b"/") else os.path.dirname(path), exist_ok=True)
                if link:
                    os.symlink(target, path)
                elif not name.endswith(b"/"):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        fingerprint(require_modules(tree, "7.1.13"))
    finally:
        _gone(tree)


def _stored_kernel(data: bytes) -> None:
    folder = _FOLDER / "cache" / "kernels" / _DIGEST
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_bytes(data)
    kernel = KernelStore(Cache(root=_FOLDER / "cache")).load(_DIGEST)
    assert kernel.digest == _DIGEST
    all_printable(kernel.release)


def _gone(tree: Path) -> None:
    for folder, _, _ in os.walk(tree):
        os.chmod(folder, 0o700)
    shutil.rmtree(tree, ignore_errors=True)


def _answered(data: bytes) -> contextlib.AbstractContextManager[object]:
    """Let whoever asks get this: a status and headers, an empty line, the body; without the line the body alone."""
    head, line, body = data.partition(b"\n\n")
    words = head.split(b"\n") if line else []
    status = int(words[0]) if words and words[0].isdigit() and len(words[0]) == 3 else 200
    headers = dict(one.decode("latin-1").split(":", 1) for one in words[1:] if b":" in one)

    def send(self: HTTPAdapter, request: requests.PreparedRequest, **_named: object) -> requests.Response:
        raw = urllib3.HTTPResponse(
            body=io.BytesIO(body if line else data), headers=headers, status=status, preload_content=False
        )
        return self.build_response(request, raw)

    return mock.patch.object(HTTPAdapter, "send", send)


def _query(data: bytes) -> None:
    with _answered(data):
        for sample in prometheus.query_samples(_CHECK, Limits()):
            assert isinstance(sample.value, float)


def _rules(data: bytes) -> None:
    with _answered(data):
        for rule in prometheus.alert_rules(_CHECK, Limits()):
            assert isinstance(rule.name, str)
            all_printable(rule.error)
            json.dumps([rule.labels, rule.firing])


def _webhook(data: bytes) -> None:
    with _answered(data):
        all_printable(webhook.post(_CHECK, _QUESTION, Limits()).detail)


def _redfish(data: bytes) -> None:
    for call in (_REDFISH.look, _REDFISH.cycle):
        with _answered(data), contextlib.suppress(Permanent, Temporary, OutcomeUnknown):
            seen = call()
            all_printable(*(seen.says if seen is not None else ()))
    with _answered(data):
        _REDFISH.look()


def _ipmi(data: bytes) -> None:
    """What `ipmitool` prints, in the place of every answer."""
    with mock.patch.object(Ipmi, "_run", lambda *_words, **_named: as_text(data)):
        all_printable(*_IPMI.look().says)
        _IPMI.cycle()


def _power_address(data: bytes) -> None:
    address = parse_address(as_text(data))
    all_printable(address.shown)
    assert parse_address(address.shown) == address


def _request(data: bytes) -> None:
    signed = _AUTHORITY.sign_agent(data, "host-a", 1.8e9)
    assert signed.certificate_pem.startswith(b"-----BEGIN CERTIFICATE-----")


def _authority(data: bytes) -> None:
    """Files of a controller or an operator: the first byte says which one has this content."""
    folder = _FOLDER / "kept"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_FOLDER / "authority", folder)
    write_operator(folder, _AUTHORITY.operator("op", 1.8e9))
    names = ("ca.pem", "ca-key.pem", "operator.pem", "operator-key.pem")
    (folder / names[data[0] % len(names) if data else 0]).write_bytes(data[1:])
    operator_is_stale(folder, _AUTHORITY, 1.8e9)
    files = read_client_files(folder)
    expired(files, 1.8e9)
    signing_request(files)
    write_renewed(files, data[1:], b"")
    open_authority(folder, 1.8e9)


_LOG_WORDS = (
    *("WARNING: mm/swapfile.c:1 at f+0x1/0x2", "BUG: ", "kernel BUG at ", "Kernel panic - not syncing: ", "Oops: "),
    *("[    1.234567] ", "<4>", "[T123]", "INFO: task a blocked for more than 120 seconds", "---[ end ", "RIP: 0010:"),
    *("Out of memory: Kill", "rcu_sched self-detected stall", "\x1b[31m", "? ", "+0x10/0x20", "Fatal exception"),
)
_JOURNAL_WORDS = (
    *('{"kind":"defined","at":1.0,"kernel":{', '"kind":"boot_started"', '"kind":"boot_ended"', '"kind":"armed"'),
    *('"kind":"acknowledged"', '"kind":"blessed"', '"kind":"reverted"', '"number":1', '"command_id":"c"', '"at":1e400'),
    *('"cause":"power_on"', '"end":"panic"', '"console_line":""', '"boot_timeout_s":1.0', '"reboot":true', "9" * 400),
    *('"v":1', '"op":"arm"', '"ok":true', '"ok":false', '"error":{"kind":"', '"message":"', '"retry_after_s":'),
)
_ANSWER_WORDS = (
    *('{"status":"success","data":', '{"resultType":"vector","result":[', '"metric":{', '"value":[1,"1"]', '"error":"'),
    *(
        '"errorType":"bad_data"',
        '"warnings":["',
        '"groups":[{"rules":[{',
        '"type":"alerting"',
        '"health":"ok"',
        '"NaN"',
    ),
    *('"alerts":[{"labels":{', '"state":"firing"', "200\n\n", "302\nLocation: /\n\n", "Content-Encoding: gzip", "null"),
    *('{"state":"pass"', '"detail":"', "500\n\n", "\\ud800", "\\u0000", "[" * 300),
)

_REDFISH_WORDS = (
    *('{"PowerState":"On"', '"Actions":{"#ComputerSystem.Reset":{', '"target":"/redfish/v1/', '"LogServices":{'),
    *(
        '"@odata.id":"/redfish/v1/x"',
        '"Members":[{',
        '"Entries":{',
        '"Message":"',
        '"Created":"',
        '"Status":{"Health":',
    ),
    *('"error":{"@Message.ExtendedInfo":[{', "401\n\n", "500\n\n", "\\ud800", "\\u001b[2J", "[" * 300),
)

TARGETS = (
    Target(name="kernel-log", run=_kernel_log, words=_LOG_WORDS, stretched_bytes=1 << 16),
    Target(name="console", run=_console, words=_LOG_WORDS, stretched_bytes=1 << 16),
    Target(name="supervisor-request", run=_protocol, errors=(Permanent, Temporary), words=_JOURNAL_WORDS),
    Target(name="supervisor-answer", run=_answer, errors=(Permanent, Temporary), words=_JOURNAL_WORDS),
    Target(name="vm-journal", run=_journal, errors=(Permanent,), words=_JOURNAL_WORDS),
    Target(name="vm-definition", run=_definition, errors=(Permanent,), words=_JOURNAL_WORDS),
    Target(name="kernel-image", run=_image, errors=(Permanent,), most_bytes=8192, words=("HdrS", "\x7fELF", "ARM\x64")),
    Target(name="package-tar", run=_tar, errors=(Permanent,), most_bytes=8192, words=("ustar", "../", "././@LongLink")),
    Target(name="package", run=_package, errors=(Permanent,), most_bytes=8192, words=("!<arch>\n", "data.tar.xz")),
    Target(
        name="modules-tree",
        run=_modules,
        errors=(InvalidInput,),
        most_bytes=1024,
        stretched_bytes=1 << 13,
        words=("lib/modules/7.1.13/kernel/", "modules.order", "\n", ">", "../../..", "/", "\x1b", "\xff"),
    ),
    Target(name="stored-kernel", run=_stored_kernel, errors=(NotFound,), words=('"release":', '"files":{', _DIGEST)),
    Target(name="prometheus-query", run=_query, errors=(Permanent, Temporary), words=_ANSWER_WORDS),
    Target(name="prometheus-rules", run=_rules, errors=(Permanent, Temporary), words=_ANSWER_WORDS),
    Target(name="webhook", run=_webhook, errors=(Permanent, Temporary), words=_ANSWER_WORDS),
    Target(name="redfish", run=_redfish, errors=(Permanent, Temporary), words=_REDFISH_WORDS),
    Target(name="ipmi", run=_ipmi, errors=(Permanent,), words=("System Power         : on", " | ", "false", "\x1b[2J")),
    Target(
        name="power-address",
        run=_power_address,
        errors=(InvalidInput,),
        words=("redfish://", "ipmi://", "/redfish/v1/Systems/", "[::1]", ":623", "user:password@", "?", "#"),
    ),
    Target(name="kept-certificates", run=_authority, errors=(Permanent,), words=("-----BEGIN CERTIFICATE-----",)),
    Target(
        name="signing-request", run=_request, errors=(InvalidInput,), words=("-----BEGIN CERTIFICATE REQUEST-----",)
    ),
)
