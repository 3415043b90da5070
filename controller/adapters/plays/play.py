"""One play, as a program: reads its request as JSON from standard input and tells what happens as lines of JSON.

It runs in a process of its own because ansible-runner waits in a loop, catches signals of the process and ends plays by
killing. What a play is given stands in files of the private directory (mode 0600), never on a command line: as an
argument, ansible-runner would put extra variables there.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ansible_runner  # type: ignore[import-untyped]  # it ships no types

from controller.adapters.plays.leftovers import MARK, remove
from controller.adapters.plays.outcomes import play_event, task_started
from controller.domain.printable import printable
from controller.domain.redaction import redacted, secrets_of

_IDENT = "play"
_CONNECT_TIMEOUT_S = 20
_PARENT_LOOK_S = 0.5
_MOST_FAULT_CHARACTERS = 1000
_FAULT = re.compile(r"^\x1b?(?:\[[0-9;]*m)?(?:\[ERROR\]|ERROR!|\[WARNING\]: Could not match)(.*)", re.DOTALL)
_SSH = (
    "-C -o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=10 -o ServerAliveCountMax=3 "
    "-o PreferredAuthentications=publickey,gssapi-with-mic,password,keyboard-interactive"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be run; paths are absolute."""

    directory: str
    playbook: str
    inventory: str
    hosts: list[str]
    variables: dict[str, Any]
    forks: int
    timeout_s: float


def main() -> int:
    """Run the play; tell each task that a host has finished, at last how the whole ended."""
    request = Request(**json.load(sys.stdin))
    os.umask(0o077)
    threading.Thread(target=_end_with, args=(os.getppid(), Path(request.directory)), daemon=True).start()
    # Whatever libraries print must not come between our lines.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def tell(what: Mapping[str, Any]) -> None:
            out.write(json.dumps(what) + "\n")
            out.flush()

        tell(_run(request, tell))
    return 0


def _end_with(parent: int, directory: Path) -> None:
    """End the play when whoever asked for it is gone: the next one who asks must not find it at work."""
    while os.getppid() == parent:
        time.sleep(_PARENT_LOOK_S)
    remove(directory)
    os._exit(1)


def _run(request: Request, tell: Callable[[Mapping[str, Any]], None]) -> Mapping[str, Any]:
    directory = Path(request.directory)
    _write(directory / "env" / "extravars", json.dumps(request.variables))
    # One pattern a line; a command line has no room for thousands of them.
    _write(directory / "limit", "\n".join(request.hosts) + "\n")
    faults: list[str] = []
    secrets = secrets_of(request.variables)

    def heard(event: dict[str, Any]) -> bool:
        if started := task_started(event):
            tell({"starts": started})
        elif (found := play_event(event, secrets)) is not None:
            tell({"task": asdict(found)})
        elif fault := _FAULT.match(str(event.get("stdout", ""))):
            faults.append(printable(redacted(fault[1].lstrip(": "), secrets), _MOST_FAULT_CHARACTERS))
        # No file for it: the events of a fleet would be as many files.
        return False

    done = ansible_runner.run(
        private_data_dir=str(directory),
        ident=_IDENT,
        playbook=request.playbook,
        inventory=request.inventory,
        limit=f"@{directory / 'limit'}",
        forks=request.forks,
        timeout=int(request.timeout_s) + 1,
        envvars=_settings(directory),
        settings={"pexpect_timeout": 1, "suppress_output_file": True},
        suppress_env_files=True,
        # Otherwise it would make a cache of facts, in JSON.
        fact_cache_type="",
        quiet=True,
        event_handler=heard,
    )
    return {"end": {"code": done.rc, "status": done.status, "faults": faults[:20]}}


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)


def _settings(directory: Path) -> dict[str, str]:
    """Return what Ansible is told; what an operator has set in the environment stays where it is only a default."""
    defaults = {
        # ansible-runner turns it off where nobody says anything.
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        # Looking for it costs every host a connection.
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_TIMEOUT": str(_CONNECT_TIMEOUT_S),
    }
    return {
        **{name: os.environ.get(name, value) for name, value in defaults.items()},
        MARK: str(directory),
        "ANSIBLE_STRATEGY": "free",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": _SSH,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "cp"),
        "ANSIBLE_SSH_RETRIES": "0",
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        # Where ssh would ask somebody, the answer is no: there is nobody, and a question would wait for ever.
        "SSH_ASKPASS": "/bin/false",
        "SSH_ASKPASS_REQUIRE": "force",
        "LC_ALL": "C.UTF-8",
    }


if __name__ == "__main__":
    sys.exit(main())
