"""Where the playbooks and units lie: beside the code in a checkout, under share/kernroll of an installed wheel."""

import sysconfig
from pathlib import Path

from controller.domain.errors import Permanent

# Of the checkout, or of the folder that packages are installed in.
_TOP = Path(__file__).resolve().parents[3]


def playbooks_directory() -> Path:
    """Return the folder of playbooks. Raises Permanent when the installation has none."""
    return _shipped("playbooks", "boot.yml")


def units_directory() -> Path:
    """Return the folder of systemd units. Raises Permanent when the installation has none."""
    return _shipped("deploy/systemd", "kernroll-agent.service")


def code_directory() -> Path:
    """Return the folder that holds the packages `controller` and `agent`."""
    return _TOP


def _shipped(name: str, witness: str) -> Path:
    installed = Path(sysconfig.get_path("data"), "share", "kernroll", name)
    for directory in (_TOP / name, installed):
        if (directory / witness).is_file():
            return directory
    raise Permanent(f"{witness} is neither in {_TOP / name} nor in {installed}: install kernroll again")
