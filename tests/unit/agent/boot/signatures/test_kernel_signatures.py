"""What keeps a kernel from starting under Secure Boot, or from taking a host's modules: a host is made for each."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.boot.host import Host
from agent.boot.signatures import image, keys, secure
from agent.boot.signatures.refusals import refusals
from agent.boot.values import BrokenHost, Entry

RUNNING, NEW = "1.0", "2.0"
EFI = "/sys/firmware/efi/efivars"
SECURE_BOOT = f"{EFI}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = f"{EFI}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
KEYS = """\
0b7da6b1 I--Q---     1 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1
1d7bc8cd I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: 6ccece7e4c6c0d1f: X509.rsa bb419ea1 []
2e7bc8cd I------     1 perm 1f030000     0     0 asymmetri Some Ltd.: Kernel Module Signing: 88f752e560: X509.rsa 0 []
3e7bc8cd I------     1 perm 1f030000     0     0 blacklist bin:80b4d96931bf0d02fd91a61e19d14f1da452e66d
"""
ENROLLED = """\
[key 1]
SHA1 Fingerprint: 00:11
Certificate:
        Issuer: CN = Nobody
        Subject: O=Somebody, CN=DKMS module signing key
[key 2]
        Subject: CN = web-1 Secure Boot Module Signature key
"""
OLD_STATUS = f"zfs, 2.1.11, {RUNNING}, x86_64: installed\nzfs, 2.1.11, {NEW}, x86_64: built\n"


def pe(*, magic: int = 0x20B, offset: int = 4096, length: int = 512, count: int = 16, size: int = 8192) -> bytes:
    """Return an EFI program as far as its headers go."""
    optional = bytearray(112 + 16 * 8)
    directories = {0x20B: 112, 0x10B: 96}[magic]
    struct.pack_into("<H", optional, 0, magic)
    struct.pack_into("<I", optional, directories - 4, count)
    struct.pack_into("<II", optional, directories + 4 * 8, offset, length)
    head = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x80) + bytes(0x40) + b"PE\0\0" + bytes(20) + bytes(optional)
    return head + bytes(size - len(head))


class SigningHost(Host):
    """Its modinfo knows these modules by release and name, with who signed them; other tools print what is given."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.signers: dict[tuple[str, str], str] = {}
        self.printed: dict[str, str] = {"modinfo": ""}
        self.write("/proc/sys/kernel/osrelease", RUNNING)
        self.image(pe())

    def image(self, content: bytes) -> None:
        """Put the new kernel's image there."""
        self.put(f"/boot/vmlinuz-{NEW}", content)

    def put(self, name: str, content: bytes) -> None:
        """Write a file of bytes."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_bytes(content)

    def loads(self, module: str, taint: str, signer: str | None) -> None:
        """Let a module run; the new kernel has one with that signature, or None at all."""
        self.write(f"/sys/module/{module}/taint", f"{taint}\n")
        if signer is not None:
            self.signers[NEW, module] = signer

    def has(self, tool: str) -> bool:
        return tool in self.printed

    def run(self, *command: str) -> str:
        if command[0] == "modinfo":
            _, _, release, *_, module = command
            if (release, module) not in self.signers:
                raise BrokenHost(f"modinfo: ERROR: Module {module} not found.")
            return f"{self.signers[release, module]}\n" if "signer" in command else "/lib/modules/one.ko\n"
        if command[0] not in self.printed:
            raise BrokenHost(f"{command[0]} failed")
        return self.printed[command[0]]


@pytest.fixture
def host(tmp_path: Path) -> SigningHost:
    return SigningHost(tmp_path)


def entry(*arguments: str, files: tuple[str, ...] = (f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}")) -> Entry:
    return Entry(id=NEW, title=NEW, release=NEW, arguments=arguments, files=files)


def found(host: SigningHost, given: Entry | None = None) -> dict[str, str]:
    return {one.code: f"{one.cause}. {one.remedy}" for one in refusals(host, NEW, given or entry())}


def enforced(host: SigningHost) -> None:
    host.put(SECURE_BOOT, b"\x06\0\0\0\1")


def test_where_nothing_is_enforced_nothing_has_to_be_signed(host: SigningHost) -> None:
    host.image(b"kernel")
    host.loads("zfs", "POE", "")
    host.put(SECURE_BOOT, b"\x06\0\0\0\0")
    assert found(host) == {}


def test_a_module_that_the_new_kernel_does_not_have_is_refused_always(host: SigningHost) -> None:
    host.loads("zfs", "PO", None)
    host.loads("ext4", "", None)
    assert list(found(host)) == ["module-missing"]
    assert (
        "the module zfs is not part of the kernel, runs now, and does not exist for 2.0"
        in found(host)["module-missing"]
    )


def test_nobody_guesses_where_modinfo_is_missing(host: SigningHost) -> None:
    host.loads("zfs", "PO", "x")
    host.printed.clear()
    with pytest.raises(BrokenHost, match="install kmod"):
        found(host)


# --- the kernel itself ---


@pytest.mark.parametrize(
    ("content", "signed"),
    [
        (pe(), True),
        (pe(magic=0x10B), True),
        (pe(length=0, offset=0), False),
        # It says so, and the file ends before.
        (pe(offset=8000), False),
        (pe(count=4), False),
        (b"\x1f\x8b compressed", False),
        (b"MZ", False),
        (b"MZ" + bytes(200), False),
        (b"", False),
    ],
)
def test_a_kernel_without_a_signature_does_not_start_under_secure_boot(
    host: SigningHost, content: bytes, signed: bool
) -> None:
    host.image(content)
    enforced(host)
    assert image.is_signed(host, f"/boot/vmlinuz-{NEW}") is signed
    assert list(found(host)) == ([] if signed else ["kernel-not-signed"])
    host.put(SECURE_BOOT, b"\x06\0\0\0\0")
    assert found(host) == {}


def test_a_unified_image_is_looked_at_in_its_place(host: SigningHost) -> None:
    enforced(host)
    unified = entry(files=(f"/efi/EFI/Linux/{NEW}.efi",))
    host.put(f"/efi/EFI/Linux/{NEW}.efi", pe(length=0))
    assert f"/efi/EFI/Linux/{NEW}.efi carries no signature" in found(host, unified)["kernel-not-signed"]
    host.path(f"/efi/EFI/Linux/{NEW}.efi").unlink()
    with pytest.raises(BrokenHost, match="cannot be read"):
        found(host, unified)


@pytest.mark.parametrize(
    ("secure_boot", "shim", "on"),
    [
        (b"\x06\0\0\0\1", None, True),
        (b"\x06\0\0\0\0", None, False),
        (b"", None, False),
        (None, None, False),
        # Told at the console to verify nothing; what outlives a reboot was written by somebody else.
        (b"\x06\0\0\0\1", b"\x06\0\0\0\1", False),
        (b"\x06\0\0\0\1", b"\x07\0\0\0\1", True),
        (b"\x06\0\0\0\1", b"\x06\0\0\0\0", True),
        (b"\x06\0\0\0\1", b"", True),
    ],
)
def test_secure_boot_is_on_where_firmware_and_shim_say_so(
    host: SigningHost, secure_boot: bytes | None, shim: bytes | None, on: bool
) -> None:
    for name, value in ((SECURE_BOOT, secure_boot), (SHIM, shim)):
        if value is not None:
            host.put(name, value)
    assert secure.is_secure_boot(host) is on


# --- modules ---


def by_firmware(host: SigningHost) -> None:
    enforced(host)


def by_setting(host: SigningHost) -> None:
    host.write("/sys/module/module/parameters/sig_enforce", "Y\n")


def by_lockdown(host: SigningHost) -> None:
    host.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")


@pytest.mark.parametrize("enforce", [by_firmware, by_setting, by_lockdown])
def test_a_module_without_a_signature_is_refused_where_signatures_are_enforced(
    host: SigningHost, enforce: Callable[[SigningHost], None]
) -> None:
    host.write("/sys/module/module/parameters/sig_enforce", "N\n")
    host.write("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    host.loads("zfs", "POE", "")
    assert found(host) == {}
    enforce(host)
    assert "zfs of 2.0 is not signed" in found(host)["module-not-signed"]


@pytest.mark.parametrize(
    ("argument", "refused"),
    [
        ("module.sig_enforce", True),
        ("module.sig_enforce=1", True),
        ("lockdown=integrity", True),
        ("module.sig_enforce=0", False),
        ("quiet", False),
    ],
)
def test_the_new_kernels_own_command_line_may_ask_for_signatures(
    host: SigningHost, argument: str, refused: bool
) -> None:
    host.loads("zfs", "O", "")
    assert list(found(host, entry(argument))) == (["module-not-signed"] if refused else [])


@pytest.mark.parametrize(
    ("signer", "listed", "enrolled", "code"),
    [
        ("DKMS module signing key", "", ENROLLED, ""),
        ("web-1 Secure Boot Module Signature key", KEYS, ENROLLED, ""),
        ("Debian Secure Boot CA", KEYS, None, ""),
        ("Kernel Module Signing", KEYS, None, ""),
        # Who issued a key has not enrolled it by that.
        ("Nobody", KEYS, ENROLLED, "signer-not-enrolled"),
        ("DKMS module signing key", KEYS, None, "signer-not-enrolled"),
        ("DKMS module signing key", "", None, "signer-unknown"),
        ("DKMS module signing key", "", "", "signer-unknown"),
    ],
)
def test_a_signature_counts_where_its_key_is_enrolled(
    host: SigningHost, signer: str, listed: str, enrolled: str | None, code: str
) -> None:
    enforced(host)
    host.loads("zfs", "PO", signer)
    host.write("/proc/keys", listed)
    if enrolled is not None:
        host.printed["mokutil"] = enrolled
    assert list(found(host)) == ([code] if code else [])
    if code:
        assert f"zfs of 2.0 is signed by {signer}" in found(host)[code]


def test_keys_of_the_kernel_are_known_with_and_without_their_organization(host: SigningHost) -> None:
    host.write("/proc/keys", KEYS)
    assert keys.signers(host) == {
        "Debian Secure Boot CA",
        "Some Ltd.: Kernel Module Signing",
        "Kernel Module Signing",
    }


# --- DKMS ---


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (f"zfs/2.3.2, {RUNNING}, x86_64: installed\nzfs/2.3.2, {NEW}, x86_64: installed\n", ""),
        (f"zfs/2.3.2, {RUNNING}, x86_64: installed\n", "zfs 2.3.2"),
        (OLD_STATUS, "zfs 2.1.11"),
        # Another version of it does, and what is installed for neither is in nobody's way.
        (f"zfs/2.3.2, {RUNNING}, x86_64: installed\nzfs/2.3.3, {NEW}, x86_64: installed\n", ""),
        ("v4l2loopback/0.15.0: added\n", ""),
        (
            f"zfs/2.3.2, {RUNNING}, x86_64: installed (WARNING! Diff between built and installed module!)\n",
            "zfs 2.3.2",
        ),
        ("", ""),
    ],
)
def test_what_dkms_has_not_built_for_the_new_kernel_is_named(host: SigningHost, status: str, told: str) -> None:
    host.printed["dkms"] = status
    refused = found(host)
    assert list(refused) == (["module-not-built"] if told else [])
    if told:
        assert f"DKMS has {told} installed for 1.0 and not for 2.0" in refused["module-not-built"]
        assert f"dkms install {told.replace(' ', '/')} -k 2.0" in refused["module-not-built"]


def test_a_dkms_that_does_not_work_is_told(host: SigningHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "has", lambda tool: tool == "dkms")
    with pytest.raises(BrokenHost, match="dkms failed"):
        found(host)
