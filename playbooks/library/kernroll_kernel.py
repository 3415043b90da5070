#!/usr/bin/python3
"""Kernel packages on a host, as one module: prepare, install, purge, probe.

A verb is one task, because each task costs an emulated host seconds. The loader is left to kernroll-boot alone.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from contextlib import nullcontext

from ansible.module_utils import kernroll_deb, kernroll_rpm
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernroll_host import Refused, Step, alone, lines_of, run, write

BOOT = "/usr/local/sbin/kernroll-boot"
# Only root reads it: what lies here is installed as root.
STAGING = "/var/lib/kernroll-stage"
READING = ("probe",)
MIB = 1 << 20
ROOM = 1.5
# As kernroll-boot ends when it does not know a verb.
USAGE = 2


def packages_here():
    """Return the part of these modules that knows this host's packages."""
    found = next((one for one in (kernroll_deb, kernroll_rpm) if one.is_there()), None)
    if found is None:
        raise Refused("neither dpkg nor rpm has a list of packages there: kernels are installed by those alone")
    return found


def ran(*arguments):
    """Run kernroll-boot and return how it ended."""
    if not os.path.exists(BOOT):
        raise Refused("kernroll-boot is not installed there: `kernroll hosts enroll` installs it")
    return run(BOOT, *arguments, "--output", "json")


def told(done):
    """Return the most telling line of a kernroll-boot that failed."""
    lines = lines_of(done)
    marked = [line for line in lines if line.startswith("kernroll-boot: ")]
    reason = (marked or lines[-1:] or [f"{BOOT} ended with code {done.returncode} and gave no reason"])[0]
    return reason.replace("kernroll-boot: ", "", 1)


def boot(*arguments):
    """Let kernroll-boot do something and return what it answers."""
    done = ran(*arguments)
    if done.returncode:
        raise Refused(told(done))
    return json.loads(done.stdout)


def release_of(state, entry_id):
    """Return the release that an entry boots, empty when there is none."""
    return next((one["release"] for one in state["entries"] if one["id"] == entry_id), "")


def refusals(*asked):
    """Return what speaks against giving this host a kernel, or what is asked for in its stead."""
    done = ran(*(asked or ("check",)))
    if done.returncode == USAGE:
        raise Refused("kernroll-boot is too old there: `kernroll hosts enroll` brings a newer one")
    answer = json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout.startswith("{") else {}
    if "refusals" not in answer:
        raise Refused(told(done))
    return answer["refusals"]


def pinned(running):
    """Make sure that the running kernel is the default, whatever is installed; return what is so."""
    state = boot("status")
    if not state["pinned"] or release_of(state, state["default"]) != running:
        if state["next"]:
            raise Refused("a kernel is armed and the running one is not the default: `kernroll-boot disarm` first")
        state = boot("pin")
    proved(state, running)
    return state


def proved(state, running):
    """Raise Refused unless the running kernel is the pinned default."""
    default = release_of(state, state["default"])
    if not state["pinned"] or default != running:
        raise Refused(f"the default is {default or state['default'] or 'nothing'} and not the running {running}")


def sha256(path):
    """Return a file's digest, empty when there is no such file."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(MIB), b""):
                found.update(block)
    except FileNotFoundError:
        return ""
    return found.hexdigest()


def size(path):
    """Return how much a tree takes."""
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)


def room(running):
    """Raise Refused where another kernel would not fit."""
    images = [f"/boot/{name}-{running}" for name in ("vmlinuz", "initrd.img", "System.map", "config")]
    images += [f"/boot/initramfs-{running}.img"]
    needs = {
        "/boot": sum(os.path.getsize(one) for one in images if os.path.exists(one)),
        "/usr": size(f"/usr/lib/modules/{running}") or size(f"/lib/modules/{running}"),
    }
    for place, used in needs.items():
        free = shutil.disk_usage(place).free
        if free < ROOM * used:
            raise Refused(
                f"{place} has {free // MIB} MiB left, and another kernel may need {int(ROOM * used) // MIB + 1} MiB: "
                "remove kernels that nobody boots, but neither the running one nor the default"
            )


def record_path(release):
    """Return where is written down what was staged for a release."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,127}", release):
        raise Refused(f"{release!r} is no kernel release")
    return os.path.join(STAGING, f"{release}.json")


def recorded(release):
    """Return the digests of the packages that a release was staged from."""
    try:
        with open(record_path(release), encoding="utf-8") as file:
            return json.load(file)["packages"]
    except (OSError, ValueError, KeyError):
        return None


def staged_releases():
    """Return the releases that were staged and are still there."""
    names = sorted(os.listdir(STAGING)) if os.path.isdir(STAGING) else []
    found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return [release for release in found if os.path.exists(f"/boot/vmlinuz-{release}")]


def is_staged(asked):
    """Tell whether the very packages were installed before, and are still there."""
    release = asked["release"]
    there = all(os.path.exists(one.format(release)) for one in ("/boot/vmlinuz-{}", "/usr/lib/modules/{}"))
    return there and recorded(release) == sorted(one["sha256"] for one in asked["packages"])


def fitting(packages, here):
    """Raise Refused for packages of another kind than this host's, and for what is no file name of one."""
    for one in packages:
        _, kind = os.path.splitext(one["name"])
        if kind in (".deb", ".rpm") and kind != f".{here.KIND}":
            raise Refused(
                f"{one['name']} is of another kind than this host's packages, which are {here.KIND}: give it a rollout "
                f"of its own with a directory of .{here.KIND} packages"
            )
        if os.path.basename(one["name"]) != one["name"] or not here.NAME.fullmatch(one["name"]):
            raise Refused(f"{one['name']!r} is no file name of a {here.KIND} package")


def prepare(asked, step):
    """Pin the running kernel and look whether another fits, before any package is touched."""
    running = os.uname().release
    record_path(asked["release"])
    fitting(asked["packages"], packages_here())
    step("checking that it comes back")
    if found := refusals():
        raise Refused(f"{found[0]['cause']}. {found[0]['remedy']}")
    step("pinning the running kernel")
    state = pinned(running)
    step("looking for room")
    staged = is_staged(asked)
    if not staged:
        room(running)
        os.makedirs(STAGING, mode=0o700, exist_ok=True)
        os.chmod(STAGING, 0o700)
    return {"staged": staged, "default": state["default"]}, False


def install(asked, step):
    """Install the packages that were copied, and prove what is so then."""
    running, release, staged = os.uname().release, asked["release"], is_staged(asked)
    here = packages_here()
    if not staged:
        step("comparing the packages")
        for one in asked["packages"]:
            path = os.path.join(STAGING, one["name"])
            if sha256(path) != one["sha256"]:
                if os.path.exists(path):
                    os.unlink(path)
                raise Refused(f"{one['name']} is not the package that was meant: its sha256 is another one")
        step("installing the packages")
        paths = [os.path.join(STAGING, one["name"]) for one in asked["packages"]]
        here.install(paths, asked["lock_timeout_s"])
        write(record_path(release), json.dumps({"packages": sorted(one["sha256"] for one in asked["packages"])}))
        for path in paths:
            os.unlink(path)
    step("keeping the running kernel from being removed")
    here.keep([running, *staged_releases()])
    step("comparing the kernel")
    found = sha256(f"/boot/vmlinuz-{release}")
    if not found or asked["image_sha256"] not in ("", found):
        raise Refused(
            f"/boot/vmlinuz-{release} {'is not the kernel that was meant' if found else 'is not there'}: "
            "the packages are not those of this release"
        )
    step("looking for modules")
    if found := refusals("inspect", release):
        raise Refused(f"{found[0]['cause']}: {found[0]['remedy']}")
    step("auditing the packages")
    if found := here.unfinished():
        raise Refused(f"{found[0]}. {found[1][:1].upper()}{found[1][1:]}, and try again")
    step("naming the kernel")
    boot("staged", asked["kernel"], release, "--command-id", asked["command_id"])
    step("proving the default")
    state = boot("status")
    proved(state, running)
    if not any(one["release"] == release for one in state["entries"]):
        raise Refused(
            f"the boot loader does not offer {release}: {here.OFFER.replace('RELEASE', release)}, and try again"
        )
    return state, not staged


def purge(asked, step):
    """Remove a kernel that is neither running nor the default nor armed."""
    running, release = os.uname().release, asked["release"]
    path = record_path(release)
    state = boot("status")
    used = {release_of(state, state["next"]): "is armed"} if state["next"] else {}
    used.update({release_of(state, state["default"]): "is the default"})
    used[running] = "runs"
    if release in used:
        raise Refused(f"{release} {used[release]}: only a kernel that nobody boots is removed")
    here = packages_here()
    step("removing the packages")
    names = here.packages_of(release)
    if shared := sorted(names & here.packages_of(running)):
        raise Refused(f"{', '.join(shared)} is also of the running {running}: only a kernel of its own is removed")
    if names:
        here.remove(release, sorted(names), asked["lock_timeout_s"])
    if os.path.exists(path):
        os.unlink(path)
    here.keep([running, *staged_releases()])
    step("forgetting its name")
    boot("forget", release)
    step("proving the default")
    state = boot("status")
    proved(state, running)
    return state, bool(names)


def probe(asked, step):
    """Say what speaks against giving this host a kernel, its package manager included."""
    found = refusals()
    here = packages_here()
    if here.is_locked():
        found.append(
            {
                "code": "packages-locked",
                "cause": "another package manager is at work",
                "remedy": f"wait until it has ended (`fuser -v {here.lock_path()}`)",
            }
        )
    if left := here.unfinished():
        found.append({"code": "packages-unfinished", "cause": left[0], "remedy": left[1]})
    try:
        state = boot("status")
    except Refused:
        state = {}
    return {**state, "refusals": found}, False


VERBS = {"prepare": prepare, "install": install, "purge": purge, "probe": probe}


def main():
    """Do what is asked, and answer."""
    package = {"name": {"type": "str", "required": True}, "sha256": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "verb": {"type": "str", "required": True, "choices": sorted(VERBS)},
            "command_id": {"type": "str", "default": ""},
            "kernel": {"type": "str", "default": ""},
            "release": {"type": "str", "default": ""},
            "image_sha256": {"type": "str", "default": ""},
            "lock_timeout_s": {"type": "int", "default": 300},
            "packages": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**package, "path": {"type": "str"}},
            },
        }
    )
    step, verb = Step(), module.params["verb"]
    os.umask(0o022)
    try:
        with nullcontext() if verb in READING else alone(module.params["lock_timeout_s"]):
            answer, changed = VERBS[verb](module.params, step)
    except subprocess.TimeoutExpired as error:
        module.fail_json(msg=f"{error.cmd[0]} was not done after {error.timeout:.0f} s", step=step.name)
    except (Refused, OSError, ValueError) as error:
        module.fail_json(msg=str(error), step=step.name)
    if answer.get("refusals"):
        module.fail_json(msg="it may not be given a kernel", answer=answer)
    module.exit_json(changed=changed, answer=answer)


if __name__ == "__main__":
    main()
