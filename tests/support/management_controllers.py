"""Management controllers without machines: OpenStack's emulator of Redfish, and OpenIPMI's simulator of IPMI."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

import bcrypt
from boot_machine import programs
from real_prometheus import free_port

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import open_authority

USER = "admin"
PASSWORD = "g00d-secret"
ENTRY = "Processor"
_READY_TIMEOUT_S = 60.0
_LOOK_S = 0.05
_SYSTEMS = {True: "5b6c6cb1-5c9c-4d1b-9a4e-000000000001", False: "5b6c6cb1-5c9c-4d1b-9a4e-000000000002"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulated:
    """One that runs, with the files that it writes."""

    address: str
    # Inventory variables beside `kernroll_power`.
    variables: dict[str, str | bool]
    folder: Path
    # What its file `told` says when it has taken an order.
    order: str

    @property
    def orders(self) -> int:
        """How often a host's power was to be cut or given."""
        return (self.folder / "told").read_text(encoding="utf-8").count(self.order)


@contextmanager
def redfish(folder: Path, *, on: bool = True) -> Iterator[Emulated]:
    """Yield sushy-tools' emulator with its fake hosts, over TLS."""
    now = SystemClock().now()
    authority = open_authority(folder / "authority", now)
    pair = authority.server(("localhost",), now)
    (folder / "key").write_bytes(pair.key_pem)
    (folder / "certificate").write_bytes(pair.certificate_pem)
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    digest = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, prefix=b"2b")).decode()
    (folder / "users").write_text(f"{USER}:{digest}\n", encoding="utf-8")
    systems = [
        {"uuid": uuid, "name": f"on-{has}", "power_state": "On" if has else "Off", "nics": []}
        for has, uuid in _SYSTEMS.items()
    ]
    settings = {
        "SUSHY_EMULATOR_FAKE_DRIVER": True,
        "SUSHY_EMULATOR_AUTH_FILE": str(folder / "users"),
        "SUSHY_EMULATOR_STATE_DIR": str(folder),
        "SUSHY_EMULATOR_FAKE_SYSTEMS": systems,
    }
    (folder / "settings.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    port = free_port()
    program = [str(Path(sys.executable).parent / "sushy-emulator"), "--config", str(folder / "settings.py")]
    tls = ["--ssl-certificate", str(folder / "certificate"), "--ssl-key", str(folder / "key")]
    with _running([*program, "-i", "127.0.0.1", "-p", str(port), *tls], folder, dict(os.environ), "Running on"):
        yield Emulated(
            address=f"redfish://localhost:{port}/redfish/v1/Systems/{_SYSTEMS[on]}",
            variables={"kernroll_power_ca_file": str(folder / "ca.pem")},
            folder=folder,
            order="/Actions/ComputerSystem.Reset",
        )


@contextmanager
def ipmi(folder: Path, *, on: bool = True) -> Iterator[Emulated]:
    """Yield OpenIPMI's simulator of one controller, whose log has one entry."""
    unpacked = ipmi_programs()
    port = free_port()
    (folder / "power").write_text("1" if on else "0")
    (folder / "told").touch()
    chassis = folder / "chassis"
    chassis.write_text(
        dedent(f"""\
        #!/bin/sh
        # MC get|set power|… [VALUE]
        cd "{folder}"
        if [ "$2" = get ]; then [ "$3" = power ] && echo "power:$(cat power)" || echo "$3:0"; fi
        if [ "$2" = set ] && [ "$3" = power ]; then echo "$4" > power; echo "power to $4" >> told; fi
        """)
    )
    chassis.chmod(0o700)
    methods = "none md2 md5 straight"
    levels = "\n".join(f"allowed_auths_{one} {methods}" for one in ("callback", "user", "operator", "admin"))
    (folder / "lan.conf").write_text(
        dedent(f"""\
        name "simulated"
        set_working_mc 0x20
        startlan 1
        addr 127.0.0.1 {port}
        priv_limit admin
        LEVELS
        guid a123456789abcdefa123456789abcdef
        endlan
        chassis_control "{chassis} 0x20"
        user 2 true "{USER}" "{PASSWORD}" admin 10 {methods}
        """).replace("LEVELS", levels)
    )
    (folder / "controller.emu").write_text(
        dedent("""\
        mc_setbmc 0x20
        mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
        sel_enable 0x20 1000 0x0a
        mc_enable 0x20
        sel_add 0x20 0x02 0x00 0x00 0x00 0x00 0x20 0x00 0x04 0x07 0x30 0x6f 0x00 0xff 0xff
        """)
    )
    files = ["-c", str(folder / "lan.conf"), "-f", str(folder / "controller.emu"), "-s", str(folder)]
    command = [str(unpacked / "usr/bin/ipmi_sim"), *files, "--nostdio", "--nopersist"]
    with _running(command, folder, ipmi_environment(), "", listens_on=port):
        yield Emulated(address=f"ipmi://127.0.0.1:{port}", variables={}, folder=folder, order="power to ")


def ipmitool(folder: Path) -> str:
    """Return Debian's program, unpacked and not installed, as one that can be run."""
    program = folder / "ipmitool"
    libraries = ipmi_environment()["LD_LIBRARY_PATH"]
    program.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH="{libraries}"\nexec "{ipmi_programs()}/usr/bin/ipmitool" "$@"\n'
    )
    program.chmod(0o700)
    return str(program)


@cache
def ipmi_programs() -> Path:
    """Return where Debian's programs for IPMI are unpacked."""
    return programs("ipmi-programs", "openipmi", "ipmitool")


def ipmi_environment() -> dict[str, str]:
    """Return an environment in which they find their libraries."""
    libraries = ":".join(str(one) for one in ipmi_programs().glob("usr/lib/*-linux-gnu*"))
    return {**os.environ, "LD_LIBRARY_PATH": libraries}


@contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str], ready: str, *, listens_on: int = 0
) -> Iterator[None]:
    """Run a program until the block is left; it is ready when it says so, or has the port of UDP."""
    said = folder / ("said" if listens_on else "told")
    with said.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
        (folder / "pid").write_text(str(process.pid))
        try:
            give_up = time.monotonic() + _READY_TIMEOUT_S
            while not (_has_udp_port(listens_on) if listens_on else ready in said.read_text(errors="replace")):
                assert process.poll() is None, said.read_text(errors="replace")
                assert time.monotonic() < give_up, said.read_text(errors="replace")
                time.sleep(_LOOK_S)
            yield
        finally:
            process.kill()
            process.wait()


def _has_udp_port(port: int) -> bool:
    """Whether somebody has a port of UDP on this machine: nobody could be asked whether it is ready."""
    lines = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return any(int(line.split()[1].rpartition(":")[2], 16) == port for line in lines)
