"""What lies in a VM's directory: definition, journal, console, staged kernels; and the QEMU command line."""

import contextlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.delivery.hypervisor import protocol, records
from controller.adapters.delivery.hypervisor.definition import (
    Disk,
    NetworkChannel,
    Qemu,
    SerialChannel,
    VmDefinition,
    load_definition,
    read_kernel,
    save_definition,
)
from controller.adapters.delivery.hypervisor.fields import Fields
from controller.adapters.delivery.hypervisor.records import Acknowledged, SwitchedOff, SwitchedOn
from controller.adapters.delivery.hypervisor.staging import stage_files
from controller.adapters.delivery.hypervisor.supervising import qemu
from controller.adapters.delivery.hypervisor.supervising.console import ConsoleLog, panic_line, telling_line
from controller.adapters.delivery.hypervisor.supervising.journal import FILE_NAME, Journal, read_journal
from controller.domain.delivery import BootCause, BootEnd, BootRecord, DeliveryStatus
from controller.domain.errors import Conflict, InvalidInput, NotFound, Permanent, Temporary
from controller.domain.kernels import Kernel

KERNEL = Kernel(
    digest="abc1", release="7.1.13", architecture="x86_64", source="", command_line="extra=1", files={"boot": "k/boot"}
)
DEFINITION = VmDefinition(
    name="vm,1",
    architecture="x86_64",
    memory_mib=1536,
    vcpus=1,
    accelerator="tcg",
    cpu_model="max",
    qemu=Qemu(binary="/opt/qemu", arguments=("-L", "/opt/share"), environment={"LD_LIBRARY_PATH": "/opt/lib"}),
    disks=(
        Disk(path="root,a.qcow2", format="qcow2", serial="kernroll-root"),
        Disk(path="seed.ext4", format="raw", serial="kernroll-seed", read_only=True),
    ),
    command_line="console=ttyS0",
    channel=SerialChannel(agent_port=7443, enroll_port=7444),
    kernel=KERNEL,
)


@pytest.mark.parametrize(
    "definition", [DEFINITION, replace(DEFINITION, channel=NetworkChannel())], ids=["serial", "network"]
)
def test_a_definition_is_read_as_it_was_written(tmp_path: Path, definition: VmDefinition) -> None:
    save_definition(tmp_path, definition)
    assert load_definition(tmp_path) == definition


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_mib": 1}, r"vm\.json\.memory_mib: must be at least 64 \(got 1\)"),
        ({"memory_mib": True}, r"memory_mib: must be a whole number"),
        ({"architecture": "sparc"}, r"architecture: must be one of x86_64, arm64 \(got 'sparc'\)"),
        ({"architecture": "arm64"}, r"kernel is for x86_64, the VM is arm64"),
        ({"disks": [{"path": "x"}]}, r"disks\[0\]\.format: is missing"),
        ({"channel": {"kind": "pigeon"}}, r"channel\.kind: must be one of serial, network"),
        ({"version": 99}, r"version is 99, this kernroll reads 1"),
        ({"kernel": []}, r"kernel: must be an object"),
    ],
)
def test_a_wrong_definition_names_its_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save_definition(tmp_path, DEFINITION)
    document = json.loads((tmp_path / "vm.json").read_text())
    (tmp_path / "vm.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(Permanent, match=message):
        load_definition(tmp_path)


def test_a_missing_or_damaged_definition_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        load_definition(tmp_path)
    (tmp_path / "vm.json").write_bytes(b"{")
    with pytest.raises(Permanent, match="not JSON"):
        load_definition(tmp_path)
    (tmp_path / "vm.json").write_bytes(b"\xff\xfe")
    with pytest.raises(Permanent, match="cannot be read"):
        load_definition(tmp_path)


def test_the_qemu_command_line_of_a_serial_guest() -> None:
    words = qemu.arguments(DEFINITION, KERNEL, 3)
    line = " ".join(words)
    assert words[:3] == ["/opt/qemu", "-L", "/opt/share"]
    assert words[words.index("-append") + 1] == "console=ttyS0 extra=1"
    assert "guest=vm,,1" in words
    assert "if=none,id=disk0,file=root,,a.qcow2,format=qcow2,discard=unmap,cache=writethrough" in words
    assert "if=none,id=disk1,file=seed.ext4,format=raw,read-only=on" in words
    assert "nvme,drive=disk0,serial=kernroll-root" in words
    assert "file,id=console,path=boots/3/console.log" in words
    assert "socket,id=port1,host=127.0.0.1,port=7443,reconnect-ms=1000" in words
    assert "virtserialport,bus=serial0.0,nr=2,chardev=port2,name=org.kernroll.enroll" in words
    assert "-no-reboot" in words
    assert words[words.index("-nic") + 1] == "none"
    assert words[words.index("-accel") + 1] == "tcg,thread=single"
    assert "kernroll-modules" not in line
    assert "-initrd" not in words
    # A dying kernel's log goes to a file of the VM, not of the boot.
    assert "id=kept-log,share=on,size=1048576,mem-path=kept-log.img" in line
    assert "acpi-erst,memdev=kept-log" in words


def test_the_qemu_command_line_of_a_networked_guest_with_modules() -> None:
    kernel = replace(KERNEL, files={"boot": "k/boot", "modules": "k/modules", "initrd": "k/initrd"})
    definition = replace(
        DEFINITION,
        channel=NetworkChannel(),
        accelerator="kvm",
        vcpus=2,
        architecture="arm64",
        qemu=Qemu(binary="q", sandbox=False),
    )
    words = qemu.arguments(definition, kernel, 1)
    assert "if=none,id=disk2,file=k/modules,format=raw,read-only=on" in words
    assert "nvme,drive=disk2,serial=kernroll-modules" in words
    assert words[words.index("-initrd") + 1] == "k/initrd"
    assert "user,id=net0" in words
    assert words[words.index("-accel") + 1] == "kvm"
    assert words[words.index("-machine") + 1] == "virt,gic-version=host"
    assert "-sandbox" not in words
    assert "acpi-erst" not in " ".join(words), "it boots without ACPI"
    assert "virtserialport" not in " ".join(words)


ON, OFF = SwitchedOn(at=1.0), SwitchedOff(at=2.5)


def write(journal_dir: Path, *more: bytes) -> Path:
    """Write two whole records and whatever else; return the file."""
    with contextlib.closing(Journal(journal_dir)) as journal:
        journal.append(ON)
        journal.append(OFF)
    path = journal_dir / FILE_NAME
    with path.open("ab") as file:
        for data in more:
            file.write(data)
    return path


@pytest.mark.parametrize("torn", [b'{"kind":"swit', b"\0\0\0\0", b"\0\0\0\0\n", b'{"kind":"switched_on","a\n', b""])
def test_a_torn_last_line_does_not_count(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, torn)
    assert read_journal(tmp_path) == (ON, OFF)
    with contextlib.closing(Journal(tmp_path)) as journal:
        assert journal.records == (ON, OFF)
        journal.append(ON)
    assert read_journal(tmp_path) == (ON, OFF, ON)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b"nonsense\n", b'{"kind":"switched_on","at":1}\n'], r"journal:3: not JSON"),
        ([b'{"kind":"from_the_future","at":1}\n'], r"journal:3: unknown record 'from_the_future'.*newer kernroll"),
        ([b'{"kind":"switched_on"}\n'], r"journal:3\.at: is missing"),
    ],
)
def test_a_damaged_journal_is_refused_with_its_line(tmp_path: Path, lines: list[bytes], message: str) -> None:
    write(tmp_path, *lines)
    with pytest.raises(Permanent, match=message):
        read_journal(tmp_path)


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(Journal(tmp_path)) as journal:
        journal.append(ON)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(Temporary, match=r"No space left on device.*free some disk space"):
                journal.append(OFF)
        assert read_journal(tmp_path) == (ON,)
        journal.append(Acknowledged(at=3, command_id="c"))
    assert read_journal(tmp_path) == (ON, Acknowledged(at=3, command_id="c"))


PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[    3.062201] {PANIC}\r\n", PANIC),
        (f"[    3.062201][    T1] {PANIC}\n[    3.1] ---[ end {PANIC} ]---\n", PANIC),
        (f"{PANIC}\n", PANIC),
        (f"agent: seen: {PANIC}\n", ""),
        (f"vm-1 login: [    3.062201] {PANIC}\r\n", PANIC),
        (f"vm-1 login: {PANIC}\r\n", PANIC),
        (f"[  OK  ] Started x.service - X.[    3.062201][    T1] {PANIC}\r\n", PANIC),
        (f"[    3.000000] systemd[1]: Starting x[    3.062201] {PANIC}\r\n", PANIC),
        (f"[\x1b[0;32m  OK  \x1b[0m] Reached \x1b[0;1;39mx\x1b[0m[    3.062201] {PANIC}\r\n", PANIC),
        (f"logger: '[    3.06] {PANIC}'\n", ""),
        (f"[    3.062201] ---[ end {PANIC} ]---\n", ""),
        ("", ""),
    ],
)
def test_the_panic_line_is_the_kernels_own(text: str, expected: str) -> None:
    assert panic_line(text) == expected


def test_a_growing_console_shows_its_panic_once_the_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    console = ConsoleLog(path)
    assert console.panic_line() == ""
    with path.open("w") as file:
        file.write("[    0.1] booting\n[    1.0] Kernel pan")
        file.flush()
        assert console.panic_line() == ""
        file.write("ic - not syncing: x")
        file.flush()
        assert console.panic_line() == ""
        assert ConsoleLog(path).panic_line(final=True) == "Kernel panic - not syncing: x"
        file.write("\n")
        file.flush()
        assert console.panic_line() == "Kernel panic - not syncing: x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[ 1.0] a\n[ 2.0] BUG: kernel NULL pointer dereference\n[ 3.0] b\n", "BUG: kernel NULL pointer dereference"),
        ("[ 1.0] a\n[ 2.0] watchdog: BUG: soft lockup - CPU#0\n[ 3.0] b\n", "watchdog: BUG: soft lockup - CPU#0"),
        ("[ 1.0] a\n[ 2.0] reboot: Restarting system\n", "reboot: Restarting system"),
        ("[ 1.0] VFS: Mounted root\n[ 2.0] Waiting for root device X...\n[ 3.0] b\n", "Waiting for root device X..."),
        ("[ 1.0] Run /sbin/init as init process\nno agent here\n[ 3.0] b\n", "no agent here"),
        (
            "kernroll-agent: no port\nkernroll-init: the agent ended with status 5; starting\n",
            "kernroll-agent: no port",
        ),
        (
            "kernroll-init: up\nkernroll-init: the agent ended with status 1\n",
            "kernroll-init: the agent ended with status 1",
        ),
        ("[ 1.0] VFS: Disk quotas\n[ 2.0] b\n", "b"),
        ("[ 1.0] a\n\x1b[ 2.0] b\x07\n\n", "[ 2.0] b"),
        ("", ""),
    ],
)
def test_the_telling_line_is_the_worst_one(text: str, expected: str) -> None:
    assert telling_line(text) == expected


def test_staging_links_the_files_and_names_what_is_missing(tmp_path: Path) -> None:
    vm_dir, store = tmp_path / "vm", tmp_path / "store"
    vm_dir.mkdir()
    store.mkdir()
    (store / "boot").write_text("image")
    kernel = replace(KERNEL, files={"boot": str(store / "boot")})
    staged = stage_files(vm_dir, kernel)
    assert staged.files == {"boot": "kernels/abc1/boot"}
    assert (vm_dir / "kernels/abc1/boot").samefile(store / "boot")
    # Staged again, also from its own place, it stays as it is.
    assert stage_files(vm_dir, staged) == staged
    with pytest.raises(NotFound, match="does not exist"):
        stage_files(vm_dir, replace(kernel, digest="other", files={"boot": str(store / "gone")}))
    with pytest.raises(Permanent, match="no file to boot"):
        stage_files(vm_dir, replace(kernel, files={}))


def test_staging_copies_where_it_cannot_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boot").write_text("image")

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    staged = stage_files(tmp_path, replace(KERNEL, files={"boot": str(tmp_path / "boot")}))
    copy = tmp_path / staged.files["boot"]
    assert copy.read_text() == "image"
    assert [file.name for file in copy.parent.iterdir()] == ["boot"]


STATUS = DeliveryStatus(
    host="h",
    revision=3,
    default="a",
    armed=None,
    running="a",
    boots=(
        BootRecord(number=1, kernel="a", command_id="", cause=BootCause.TRIAL, end=BootEnd.PANIC, ended_at=2.0),
        BootRecord(number=2, kernel="a", command_id="c", cause=BootCause.FALLBACK, started_at=2.0),
    ),
)


def test_answers_are_read_as_they_were_written() -> None:
    assert protocol.decode_answer(protocol.encode_answer(STATUS), "h") == STATUS
    for error in (Permanent("no"), InvalidInput("no"), NotFound("no"), Conflict("no")):
        with pytest.raises(type(error), match="h: no"):
            protocol.decode_answer(protocol.encode_refusal(error), "h")
    with pytest.raises(Temporary, match="h: later") as caught:
        protocol.decode_answer(protocol.encode_refusal(Temporary("later", retry_after_s=7)), "h")
    assert caught.value.retry_after_s == 7
    with pytest.raises(Temporary, match="cut short"):
        protocol.decode_answer(b'{"v":1,', "h")


@pytest.mark.parametrize("line", [b"", b"[]", b'"x"', b'{"v":2,"op":"status"}', b'{"op":"status"}'])
def test_a_request_of_another_kind_is_refused(line: bytes) -> None:
    with pytest.raises(Permanent):
        protocol.decode_request(line)


def test_fields_refuse_what_is_no_number() -> None:
    fields = Fields.of({"a": float("nan"), "b": "1", "c": -1, "d": True}, "x")
    for name in fields.values:
        with pytest.raises(Permanent, match=rf"x\.{name}: must be"):
            fields.number(name)


@pytest.mark.parametrize(
    ("field", "value"), [("release", "../x"), ("release", "a" * 65), ("digest", "../x"), ("digest", "é")]
)
def test_a_kernel_is_named_by_plain_words_only(tmp_path: Path, field: str, value: str) -> None:
    named = replace(KERNEL, **{field: value})  # type: ignore[arg-type]  # the two fields are texts
    with pytest.raises(Permanent, match="is named as no kernel is"):
        stage_files(tmp_path, named)
    with pytest.raises(Permanent, match=f"kernel.{field}"):
        read_kernel(Fields.of(asdict(named), "kernel"))
    assert not list(tmp_path.iterdir())


def test_json_of_any_depth_is_refused_and_ends_nothing() -> None:
    deep = b"[" * 50_000
    with pytest.raises(InvalidInput, match="not JSON"):
        protocol.decode_request(deep)
    with pytest.raises(Temporary, match="cut short"):
        protocol.decode_answer(deep, "vm-1")
    with pytest.raises(Permanent, match="not JSON"):
        records.decode(deep.decode(), "journal:1")
