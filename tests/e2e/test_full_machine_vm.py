"""A machine that boots by its own loader as an ordinary Debian host does, and gets another kernel by apt and GRUB."""

import functools
import http.server
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.local.cache import Cache
from controller.adapters.local.clock import SystemClock
from controller.lab.full.image import FullImage, prepare_disk
from controller.lab.full.machine import CONTROLLER_ADDRESS, FullMachine, open_machine
from controller.lab.full.repository import Repository, packages_beyond, write_repository
from controller.lab.full.shapes import SHAPES

pytestmark = pytest.mark.e2e

# An emulated machine's slowest step, on a busy machine.
STEP_S = 3 * PATIENCE_S


class Steps:
    """Says how long each step took."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def done(self, what: str) -> None:
        now_s = time.monotonic()
        print(f"{now_s - self._began_s:6.1f} s  {what}", flush=True)
        self._began_s = now_s


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(repository: Repository) -> Iterator[str]:
    """Serve a repository on the loopback interface and yield the address at which machines find it."""
    handler = functools.partial(QuietHandler, directory=str(repository.directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{CONTROLLER_ADDRESS}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def newer_kernel(image: FullImage) -> str:
    """Return the package of the kernel that the release's backports have now."""
    flavour = SHAPES[image.shape].kernel.removeprefix("linux-image-")
    return f"linux-image-{flavour}/trixie-backports"


@pytest.fixture(params=["x86_64-bios-grub", "x86_64-uefi-grub"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullMachine]:
    cache = Cache.from_environment()
    image = prepare_disk(cache, request.param)
    made = open_machine(cache, tmp_path / "metal-1", image, port=free_port())
    try:
        yield made
    finally:
        made.kill()


def entry_of(machine: FullMachine, release: str) -> str:
    """Return what grub-reboot takes for a kernel's own entry."""
    menu = machine.sh("cat /boot/grub/grub.cfg")
    ids = re.findall(r"'(gnulinux-[^']+)'", menu)
    top = next(one for one in ids if one.startswith("gnulinux-advanced-"))
    return f"{top}>" + next(one for one in ids if one.startswith(f"gnulinux-{release}-advanced-"))


def test_apt_and_grub_give_the_machine_another_kernel_once(machine: FullMachine, tmp_path: Path) -> None:
    steps = Steps()
    image = prepare_disk(Cache.from_environment(), machine.made_of.shape)
    files = packages_beyond(Cache.from_environment(), image, [newer_kernel(image)])
    repository = write_repository(tmp_path / "repository", files, now_s=SystemClock().now())
    steps.done(f"writing a repository of {len(files)} packages")
    machine.start()
    first = machine.wait_for_ssh(STEP_S)
    steps.done("boot to ssh")
    old = machine.made_of.release
    assert machine.sh("uname -r").strip() == old
    assert machine.sh("dpkg --audit; apt-get check -qq") == ""
    state = machine.run("systemctl", "is-system-running", "--wait", timeout_s=STEP_S).stdout.strip()
    failed = machine.sh("systemctl list-units --failed --plain --no-legend")
    steps.done(f"the system is {state}; failed units: {failed or 'none'}")
    assert state == "running", failed
    assert machine.sh("hostname; id -un; sudo -n id -un", user="operator").split() == ["metal-1", "operator", "root"]
    with served(repository) as address:
        machine.sh(f"cat > /etc/apt/sources.list.d/kernroll.sources <<'END'\n{repository.source(address)}END")
        machine.sh("apt-get update -qq -o APT::Update::Error-Mode=any", timeout_s=STEP_S)
        steps.done("apt-get update")
        package = next(name for name in repository.packages if re.match(r"linux-image-\d", name))
        new = package.removeprefix("linux-image-")
        machine.sh(f"apt-get install -qq -y --no-install-recommends {package}", timeout_s=STEP_S)
        steps.done(f"installing {new}")
    assert machine.sh("dpkg --audit") == ""
    # As Debian ships GRUB, the newest kernel is the default: the old one is what an armed entry chooses, once.
    machine.sh(f"grub-reboot '{entry_of(machine, old)}'")
    machine.run("systemctl", "reboot")
    second = machine.wait_for_ssh(STEP_S, after_boot=first)
    steps.done("reboot into the kernel that was armed")
    assert machine.sh("uname -r; grub-editenv list").split() == [old, "next_entry="]
    machine.run("systemctl", "reboot")
    machine.wait_for_ssh(STEP_S, after_boot=second)
    steps.done("reboot into the default")
    assert machine.sh("uname -r").strip() == new
