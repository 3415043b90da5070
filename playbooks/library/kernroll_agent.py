#!/usr/bin/python3
"""The agent on a host, as one module: look, install, remove."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import nullcontext

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernroll_host import Refused, Step, alone

BOOT = "/usr/local/sbin/kernroll-boot"
# Each version in a folder of its own, so that the name above changes from one whole program to another.
BOOT_VERSIONS = "/usr/local/lib/kernroll-boot"
PLACE = "/opt/kernroll"
SETTINGS = "/etc/kernroll/agent.toml"
STATE = "/var/lib/kernroll"
UNITS = "/etc/systemd/system"
OWN_UNITS = (
    "kernroll-agent.service",
    "kernroll-boot.socket",
    "kernroll-boot@.service",
    "kernroll-armed.timer",
    "kernroll-armed.service",
    "kernroll-guard.service",
)
# Which bundle is installed.
MARK = f"{PLACE}/bundle.sha256"
TIMEOUT_S = 900
READING = ("look",)
WAIT_S = 300


def run(*command, check=True):
    """Run a program and return how it ended."""
    done = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if check and done.returncode:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise Refused(f"{os.path.basename(command[0])}: {lines[-1] if lines else f'it ended with {done.returncode}'}")
    return done


def text(path):
    """Return a file's text, empty when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path, content, mode):
    """Replace a file as a whole; nobody may read it before it has its mode. Return whether it was another."""
    if text(path) == content:
        return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    draft = f"{path}.kernroll"
    if os.path.lexists(draft):
        os.unlink(draft)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(draft, mode)
    os.replace(draft, path)
    return True


def is_enrolled():
    """Tell whether the host has a certificate and the settings that led to it."""
    return os.path.exists(f"{STATE}/enrollment.json") and os.path.exists(SETTINGS)


def look(_asked, _step):
    """Say what the host is and has."""
    machine = platform.machine()
    return {
        "architecture": "arm64" if machine == "aarch64" else machine,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "enrolled": is_enrolled(),
        "bundle": installed(),
    }, False


def boot_folder():
    """Return the folder of the kernroll-boot that is run."""
    return os.path.dirname(os.path.dirname(os.path.realpath(BOOT)))


def installed():
    """Return which bundle is installed as a whole, empty when there is none."""
    bundle = text(MARK).strip()
    whole = os.path.exists(BOOT) and boot_folder().startswith(f"{BOOT_VERSIONS}/{bundle[:16]}.")
    return bundle if bundle and whole else ""


def unpacked(asked):
    """Put the files of kernroll-boot and of the agent in their places; return whether they were others."""
    wanted = asked["bundle_sha256"]
    if installed() == wanted:
        return False
    if os.path.exists(f"{PLACE}/pyvenv.cfg"):
        raise Refused(f"{PLACE} is an environment that was made by hand: remove it, or leave the host as it is")
    digest = hashlib.sha256()
    with open(asked["archive"], "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != wanted:
        raise Refused("the archive of the agent is not the one that was sent: its sha256 is another one")
    fresh, former = f"{PLACE}.new", f"{PLACE}.old"
    for path in (fresh, former):
        shutil.rmtree(path, ignore_errors=True)
    os.makedirs(fresh, mode=0o755)
    with tarfile.open(asked["archive"]) as archive:
        archive.extractall(fresh)
    if not asked["compiled"]:
        compiled(f"{fresh}/lib", f"{PLACE}/lib")
    put_boot(f"{fresh}/boot", asked)
    write(f"{fresh}/bundle.sha256", f"{wanted}\n", 0o644)
    if os.path.exists(PLACE):
        os.rename(PLACE, former)
    os.rename(fresh, PLACE)
    shutil.rmtree(former, ignore_errors=True)
    return True


def compiled(library, place):
    """Put bytecode beside the sources of a library that will lie elsewhere: a slow host compiles but once."""
    mode = ("--invalidation-mode", "unchecked-hash")
    run(sys.executable, "-m", "compileall", "-q", *mode, "-s", library, "-p", place, library, check=False)


def put_boot(fresh, asked):
    """Make this kernroll-boot the one that is run, at once: a host that loses power now has it or its predecessor."""
    former, link = boot_folder(), f"{BOOT}.new"
    for folder in (BOOT_VERSIONS, os.path.dirname(BOOT)):
        os.makedirs(folder, mode=0o755, exist_ok=True)
    version = tempfile.mkdtemp(prefix=f"{asked['bundle_sha256'][:16]}.", dir=BOOT_VERSIONS)
    os.chmod(version, 0o755)
    for name in os.listdir(fresh):
        shutil.move(f"{fresh}/{name}", version)
    if not asked["compiled"]:
        compiled(f"{version}/lib", f"{version}/lib")
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(f"{version}/bin/kernroll-boot", link)
    os.sync()
    os.replace(link, BOOT)
    os.sync()
    # A guard may still run the predecessor.
    for name in {*os.listdir(BOOT_VERSIONS)} - {os.path.basename(version), os.path.basename(former)}:
        shutil.rmtree(f"{BOOT_VERSIONS}/{name}", ignore_errors=True)


def settings(asked):
    """Return the agent's settings; texts of JSON are texts of TOML."""
    given = {"host": "host", "controller": "controller", "enroll": "enroll_address", "join_token": "join_token"}
    lines = [f"{name} = {json.dumps(asked[value])}" for name, value in given.items()]
    return "# Written by kernroll hosts enroll.\n" + "\n".join(lines) + "\n"


def install(asked, step):
    """Install and start the agent, and say what speaks against giving the host kernels."""
    step("unpacking the agent")
    changed = unpacked(asked)
    if os.path.exists(asked["archive"]):
        os.unlink(asked["archive"])
    step("writing the units")
    units = {f"{UNITS}/{name}": content for name, content in asked["units"].items()}
    for path, content in units.items():
        changed = write(path, content, 0o644) or changed
    step("writing the settings")
    enrolled = is_enrolled()
    if not enrolled:
        if not asked["join_token"]:
            raise Refused("it is not enrolled, and no join token was given")
        os.makedirs(os.path.dirname(SETTINGS), mode=0o755, exist_ok=True)
        changed = write(SETTINGS, settings(asked), 0o600) or changed
    step("starting the agent")
    run("systemctl", "daemon-reload")
    # Others are started by those, as they need them.
    for name in (name for name, content in asked["units"].items() if "[Install]" in content):
        run("systemctl", "enable", name)
        run("systemctl", "restart" if changed else "start", name)
    step("looking at the boot loader")
    state = asked_boot("status")
    if state and not state.get("next"):
        asked_boot("pin")
    checked = asked_boot("check")
    if checked is None:
        raise Refused("kernroll-boot check does not work there")
    return {"enrolled": enrolled, "refusals": checked["refusals"]}, changed


def asked_boot(verb):
    """Return what kernroll-boot says, None when it does not."""
    try:
        return json.loads(run(BOOT, verb, "--output", "json", check=False).stdout)
    except ValueError:
        return None


def remove(asked, step):
    """Take the agent off the host. What it boots stays as it is."""
    step("looking at the boot loader")
    state = asked_boot("status") if os.path.exists(BOOT) else None
    if state and state.get("next"):
        raise Refused("a kernel is armed: `kernroll-boot disarm` first, or let its trial end")
    step("stopping the agent")
    changed = False
    for name in OWN_UNITS:
        if os.path.exists(f"{UNITS}/{name}"):
            # Of what others start nothing runs for longer than it takes.
            if "[Install]" in text(f"{UNITS}/{name}"):
                run("systemctl", "disable", "--now", name)
            elif name.endswith(".timer"):
                run("systemctl", "stop", name)
            os.unlink(f"{UNITS}/{name}")
            changed = True
    run("systemctl", "daemon-reload")
    step("removing its files")
    if os.path.exists(MARK):
        shutil.rmtree(PLACE)
        changed = True
    for path in (SETTINGS, BOOT, "/etc/apt/apt.conf.d/zz-kernroll"):
        if os.path.lexists(path):
            os.unlink(path)
            changed = True
    shutil.rmtree(BOOT_VERSIONS, ignore_errors=True)
    if asked["state"]:
        for path in (STATE, "/var/lib/kernroll-boot", "/var/lib/kernroll-stage"):
            shutil.rmtree(path, ignore_errors=True)
    return {}, changed


VERBS = {"look": look, "install": install, "remove": remove}


def main():
    """Do what is asked, and answer."""
    words = ("host", "controller", "enroll_address", "archive", "bundle_sha256")
    module = AnsibleModule(
        argument_spec={
            "verb": {"type": "str", "required": True, "choices": sorted(VERBS)},
            **{name: {"type": "str", "default": ""} for name in words},
            "compiled": {"type": "bool", "default": False},
            # Nothing that is told or logged shows it.
            "join_token": {"type": "str", "default": "", "no_log": True},
            "units": {"type": "dict", "default": {}},
            "state": {"type": "bool", "default": False},
        }
    )
    step, verb = Step(), module.params["verb"]
    os.umask(0o022)
    try:
        with nullcontext() if verb in READING else alone(WAIT_S):
            answer, changed = VERBS[verb](module.params, step)
    except subprocess.TimeoutExpired as error:
        module.fail_json(msg=f"{error.cmd[0]} was not done after {error.timeout:.0f} s", step=step.name)
    except (Refused, OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg=str(error), step=step.name)
    module.exit_json(changed=changed, answer=answer)


if __name__ == "__main__":
    main()
