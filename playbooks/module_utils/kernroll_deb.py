"""Debian's packages of kernels: apt installs and removes them, and is told which of them must stay.

The same functions as in kernroll_rpm: a kernel's module does not know which of them it has.
"""

import fcntl
import os
import re

from ansible.module_utils.kernroll_host import TIMEOUT_S, Refused, lines_of, run, write
from ansible.module_utils.kernroll_timers import paused

KIND = "deb"
NAME = re.compile(r"[\w.+~%-]+\.deb")
OFFER = "run update-grub"
GUARD = "/etc/apt/apt.conf.d/zz-kernroll"
LOCK = "/var/lib/dpkg/lock-frontend"
DATABASE = "/var/lib/dpkg/status"


def is_there():
    """Tell whether this host is made of such packages; where only the program is, its list of packages is empty."""
    return os.path.exists(DATABASE) and os.path.getsize(DATABASE) > 0


def install(paths, lock_timeout_s):
    """Install package files beside what is there."""
    _apt("install", lock_timeout_s, "--no-install-recommends", "--no-remove", *paths)


def keep(releases):
    """Mark kernels' packages as wanted, and tell apt never to take them for superfluous."""
    names = sorted(set().union(*map(packages_of, releases)))
    if names:
        _checked("apt-mark", "manual", *names)
    lines = "".join(f'    "^{re.escape(name)}$";\n' for name in names)
    head = "// Written by kernroll: the running kernel and those that were staged stay.\n"
    write(GUARD, f"{head}APT::NeverAutoRemove {{\n{lines}}};\n")


def packages_of(release):
    """Return the packages of a kernel: image and modules."""
    return _owners(f"/boot/vmlinuz-{release}", f"/usr/lib/modules/{release}/modules.builtin") | _owners(
        f"/usr/lib/modules/{release}/kernel"
    )


def remove(release, names, lock_timeout_s):
    """Remove a kernel's packages, and no others with them."""
    planned = _apt("purge", lock_timeout_s, "--simulate", *names).stdout
    gone = set(re.findall(r"^(?:Purg|Remv) (\S+)", planned, re.MULTILINE))
    if others := sorted(gone - set(names)):
        raise Refused(f"{', '.join(others)} would go with {release}: remove them first, if nobody needs them")
    _apt("purge", lock_timeout_s, *names)


def unfinished():
    """Return what is left unfinished, and what to do; None when nothing is."""
    said = " ".join(run("dpkg", "--audit").stdout.split())[:300]
    return (f"dpkg --audit finds: {said}", "run `dpkg --configure -a` on it") if said else None


def is_locked():
    """Tell whether another one is at work, without waiting for it."""
    if not os.path.exists(LOCK):
        return False
    with open(LOCK, "rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def lock_path():
    """Return what is held by whoever is at work."""
    return LOCK


def _apt(verb, lock_timeout_s, *words):
    """Run apt-get without a question."""
    options = [f"DPkg::Lock::Timeout={lock_timeout_s}", "APT::Sandbox::User=root"]
    options += ["Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"]
    command = ("apt-get", verb, "-y", "-q", *(word for one in options for word in ("-o", one)), *words)
    if "--simulate" in words:
        return _checked(*command)
    with paused(run, TIMEOUT_S + lock_timeout_s):
        return _checked(*command)


def _checked(*command):
    """Run a program that must succeed."""
    done = run(*command)
    if done.returncode:
        raise Refused(_told(done, command[0]))
    return done


def _told(done, name):
    """Return the most telling line of a program that failed."""
    lines = lines_of(done)
    marked = [line for line in lines if line.startswith(("E: ", "dpkg: error"))]
    reason = (marked or lines[-1:] or [f"{name} ended with code {done.returncode} and gave no reason"])[0]
    # What apt says of a package that would have to be there comes before its error, which names none.
    if unmet := [line for line in lines if re.search(r": (Pre)?Depends: ", line)]:
        reason = f"{'; '.join(unmet)}: give the host a repository that has it, and try again"
    return reason


def _owners(*paths):
    """Return the packages that own files."""
    found = set()
    for path in filter(os.path.exists, paths):
        for name in {path, os.path.realpath(path), re.sub("^/usr/lib/", "/lib/", path)}:
            done = run("dpkg-query", "--search", name)
            for line in done.stdout.splitlines() if done.returncode == 0 else ():
                if not line.startswith("diversion by "):
                    found |= {one.strip().partition(":")[0] for one in line.rpartition(": ")[0].split(",")}
    return found
