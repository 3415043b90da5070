"""Make and run one machine by hand: `python -m controller.lab.full up DIRECTORY`. It runs until interrupted."""

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

from controller.adapters.local.cache import Cache
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.lab.full.image import prepare_disk
from controller.lab.full.machine import Hardware, open_machine
from controller.lab.full.seed import ACCOUNTS, BECOME_PASSWORD
from controller.lab.full.shapes import DEFAULT_SHAPE, SHAPES


def main() -> int:
    """Run the command line and return its exit code: 0, or 1 when the machine cannot be made or started."""
    parser = argparse.ArgumentParser(prog="python -m controller.lab.full", description=__doc__)
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="make the machine of a directory if it is new, start it, say how to reach it")
    up.add_argument("directory", type=Path)
    up.add_argument("--port", type=int, default=2201, help="of its sshd, on 127.0.0.1 (%(default)s)")
    up.add_argument("--shape", choices=sorted(SHAPES), default=DEFAULT_SHAPE)
    up.add_argument("--memory", type=int, default=Hardware().memory_mib, help="in MiB (%(default)s)")
    up.add_argument("--vcpus", type=int, default=Hardware().vcpus)
    up.add_argument("--watchdog", action="store_true", help="give it an i6300esb watchdog")
    try:
        return _up(parser.parse_args())
    except (InvalidInput, Permanent, Temporary) as error:
        print(error, file=sys.stderr)
        return 1


def _up(arguments: argparse.Namespace) -> int:
    cache, told = Cache.from_environment(), [""]

    def progress(label: str, done_bytes: int, total_bytes: int) -> None:
        if told[0] != label:
            told[0] = label
            print(label, flush=True)

    image = prepare_disk(cache, arguments.shape, progress)
    hardware = Hardware(memory_mib=arguments.memory, vcpus=arguments.vcpus, watchdog=arguments.watchdog)
    machine = open_machine(cache, arguments.directory, image, port=arguments.port, hardware=hardware)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began_s = time.monotonic()
    machine.start()
    try:
        machine.wait_for_ssh()
        print(f"{machine.name} is up after {time.monotonic() - began_s:.1f} s, on {image.release}")
        for account in ACCOUNTS:
            print(f"  {shlex.join(machine.ssh_command(account))}")
        print(f"key {machine.keys.identity}, known hosts {machine.keys.known_hosts}, port {machine.port}")
        print(
            f"becomer's password for sudo: {BECOME_PASSWORD}; console {machine.directory / 'console.log'}", flush=True
        )
        machine.wait()
        print(f"{machine.name} has switched itself off")
    except KeyboardInterrupt:
        print(f"switching {machine.name} off", flush=True)
    finally:
        machine.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
