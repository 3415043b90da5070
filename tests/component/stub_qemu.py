"""Stands in for QEMU: takes the same arguments, keeps the same files, answers on the same socket, boots nothing.

What it does is the text of the "kernel" file: `runs`, `panics`, `resets`, `refuses` (ends before there is a console)
or `deaf` (runs, and neither quits when asked nor ends when terminated). Each start adds a line to the file `starts`.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def option(name: str, start: str = "") -> str:
    """Return the value of an option; with `start`, of the one whose value starts so."""
    pairs = zip(sys.argv, sys.argv[1:], strict=False)
    return next(value for key, value in pairs if key == name and value.startswith(start))


def serve_qmp(listener: socket.socket, *, deaf: bool) -> None:
    """Greet each client and quit when asked."""
    while True:
        client, _ = listener.accept()
        with client, client.makefile("rw") as stream:
            print(json.dumps({"QMP": {"version": {}, "capabilities": []}}), file=stream, flush=True)
            for line in stream:
                command = json.loads(line)["execute"]
                print(json.dumps({"event": "NOTHING", "data": {}}), file=stream, flush=True)
                print(json.dumps({"return": {}}), file=stream, flush=True)
                if command == "quit" and not deaf:
                    os._exit(0)


def main() -> None:
    """Behave as the kernel file says."""
    behaviour = Path(option("-kernel")).read_text().split()[0]
    with Path("starts").open("a") as starts:
        starts.write(f"{os.getpid()} {behaviour} {option('-append')}\n")
    if behaviour == "refuses":
        sys.exit("stub-qemu: could not open the disk")
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(option("-pidfile")).write_text(f"{os.getpid()}\n")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(option("-qmp", "unix:").removeprefix("unix:").split(",")[0])
    listener.listen()
    console = Path(option("-chardev", "file,id=console,path=").removeprefix("file,id=console,path="))
    with console.open("a") as out:
        print("[    0.000000] Linux version stub", file=out, flush=True)
        if behaviour == "panics":
            print("[    1.000000][    T1] Kernel panic - not syncing: VFS: no root", file=out, flush=True)
        if behaviour == "resets":
            print("[    1.000000] reboot: Restarting system", file=out, flush=True)
            return
    serve_qmp(listener, deaf=behaviour == "deaf")


if __name__ == "__main__":
    main()
