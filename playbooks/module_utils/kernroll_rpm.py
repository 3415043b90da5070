"""Rpm packages of kernels: rpm itself installs them beside the others, and dnf is told to keep what is there.

The same functions as in kernroll_deb. Dnf is not asked to install: what it does not take for one of several kernels it
would put in the place of the running one.
"""

import fcntl
import json
import os
import re
import time

from ansible.module_utils.kernroll_host import Refused, lines_of, run, write

KIND = "rpm"
NAME = re.compile(r"[\w.+~^%-]+\.rpm")
OFFER = "run `kernel-install add RELEASE /lib/modules/RELEASE/vmlinuz` for it"
# Of dnf 4 and 5.
SETTINGS = "/etc/dnf/dnf.conf"
LIMIT = re.compile(r"^[ \t]*installonly_limit[ \t]*=[ \t]*(\S*)[ \t]*$", re.MULTILINE)
UNLIMITED = "installonly_limit=0"
NOTE = "# kernroll: dnf removes no kernel because there are many; installonly_limit was "
# Written before a transaction and removed after it, with the packages that it is about.
UNDER_WAY = "/var/lib/kernroll-stage/.rpm-under-way"
_LOCKED = "can't create transaction lock"
_LOOK_S = 0.2
# An installed package, so that rpm finds exactly that one again.
_EXACT = "%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}"


class Locked(Refused):
    """Another one was at work all the time; nothing was begun."""


def is_there():
    """Tell whether this host is made of such packages."""
    if not any(os.access(f"{folder}/rpm", os.X_OK) for folder in ("/usr/bin", "/bin", "/usr/local/bin")):
        return False
    folder = _database()
    return any(os.path.exists(f"{folder}/{name}") for name in ("rpmdb.sqlite", "Packages.db", "Packages"))


def install(paths, lock_timeout_s):
    """Install package files beside what is there; what an interrupted transaction left by half is installed anew."""
    named = {_name(path): path for path in paths}
    begun = _under_way()
    if others := [name for name in begun if name not in named]:
        raise Refused(_by_half(others))
    fresh = [path for name, path in named.items() if name in begun or not _is_installed(name, path)]
    if not fresh:
        return
    write(UNDER_WAY, json.dumps(sorted(named)))
    try:
        # A kernel may be older than one that is there.
        done = _transaction(lock_timeout_s, "--install", "--oldpackage", *(["--replacepkgs"] if begun else []), *fresh)
    except Locked:
        if not begun:
            _forget()
        raise
    if done.returncode:
        if not begun and not any(_query([name], "%{NAME}\n") for name in named):
            _forget()
        raise Refused(_told(done))
    # It is installed all the same, for rpm.
    if failed := [line for line in lines_of(done) if "scriptlet failed" in line]:
        name = " ".join(sorted(named))
        raise Refused(f"{failed[0].removeprefix('warning: ')}: try again, or remove it with `rpm --erase {name}`")
    _forget()


def keep(releases):
    """Let dnf remove no kernel because there are too many of them; rpm itself removes none."""
    if not releases or not os.path.exists(SETTINGS):
        return
    with open(SETTINGS, encoding="utf-8") as file:
        former = file.read()
    # Of several the last counts.
    found = LIMIT.findall(former)
    if found and found[-1] == "0":
        return
    added = f"[main]\n{NOTE}{found[-1] if found else 'not set'}\n{UNLIMITED}\n"
    rest = re.sub(rf"{LIMIT.pattern}\n?", "", former, flags=re.MULTILINE)
    head, main, tail = rest.partition("[main]\n")
    write(SETTINGS, f"{head}{added}{tail}" if main else f"{added}{rest}")


def packages_of(release):
    """Return the packages of a kernel, each with its version: those with its image and those with its modules."""
    found = set()
    tree = f"/lib/modules/{release}"
    for path in (f"/boot/vmlinuz-{release}", f"{tree}/vmlinuz", f"{tree}/modules.builtin", *_some(f"{tree}/kernel")):
        for name in {path, os.path.realpath(path)}:
            if os.path.exists(name):
                found |= set(_names(["--file", name]))
    return found


def remove(release, names, lock_timeout_s):
    """Remove a kernel's packages, and no others with them."""
    done = run("rpm", "--erase", "--test", *names)
    if done.returncode:
        needs = [line for line in lines_of(done) if "is needed by" in line]
        raise Refused(
            f"{'; '.join(needs)}: remove those first that need it, if nobody needs them" if needs else _told(done)
        )
    done = _transaction(lock_timeout_s, "--erase", *names)
    if done.returncode:
        raise Refused(_told(done))
    if set(_under_way()) <= set(names):
        _forget()


def unfinished():
    """Return what is left unfinished, and what to do; None when nothing is."""
    if begun := _under_way():
        cause, _, remedy = _by_half(begun).partition(": ")
        return cause, remedy
    done = run("rpmdb", "--verifydb")
    if done.returncode:
        said = (lines_of(done) or ["it does not say how"])[0][:200]
        return f"rpm's database is damaged: {said}", "run `rpmdb --rebuilddb` on it"
    return None


def is_locked():
    """Tell whether another one is at work, without waiting for it."""
    try:
        with open(lock_path(), "rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def lock_path():
    """Return what is held by whoever is at work."""
    return f"{_database()}/.rpm.lock"


def _database():
    return run("rpm", "--eval", "%{_dbpath}").stdout.strip()


def _transaction(lock_timeout_s, *words):
    """Run rpm once nobody else is at work: some of its versions wait for that for ever, and others not at all."""
    give_up, path = time.monotonic() + lock_timeout_s, lock_path()
    while True:
        done = None if is_locked() else run("rpm", *words)
        if done is not None and not (done.returncode and _LOCKED in done.stderr):
            return done
        if time.monotonic() >= give_up:
            raise Locked(
                f"another package manager held {path} for too long: see what holds it with `fuser -v {path}` and try "
                "again when that has ended"
            )
        time.sleep(_LOOK_S)


def _told(done):
    """Return why rpm failed, and what to do where that is known."""
    # Debian's rpm advises against itself in lines of that beginning.
    lines = [line.removeprefix("error: ") for line in lines_of(done) if not line.startswith("rpm: ")]
    if needed := [line for line in lines if "is needed by" in line]:
        remedy = "install what has it (dnf install), or put its package in the rollout's directory, and try again"
        return f"{'; '.join(needed)}: {remedy}"
    if other := [line for line in lines if re.search(r"conflicts with|is obsoleted by", line)]:
        return f"{other[0]}: take a package that can be installed beside the running kernel"
    if bad := [line for line in lines if re.search(r"does not verify|BAD|NOKEY", line)]:
        return f"{bad[0]}: this host takes signed packages only; import their key with `rpm --import`, and try again"
    scripts = [line for line in lines if "scriptlet failed" in line]
    return (scripts or lines or [f"rpm ended with code {done.returncode} and gave no reason"])[0]


def _is_installed(name, path):
    """Tell whether this very package is installed. Raises Refused for another build under its name and version."""
    there = _query([name], "%{SHA256HEADER}\n")
    if there and there != _query(["--package", path], "%{SHA256HEADER}\n"):
        raise Refused(
            f"{name} is installed there from another build: remove that one (`rpm --erase {name}`), or give this one "
            "another release"
        )
    return bool(there)


def _name(path):
    found = _names(["--package", path])
    if len(found) != 1:
        raise Refused(f"{os.path.basename(path)} cannot be read by the rpm there: it may be too old for this package")
    return found[0]


def _names(words):
    return _query(words, f"{_EXACT}\n")


def _query(words, form):
    done = run("rpm", "--query", "--nosignature", "--queryformat", form, *words)
    return done.stdout.split() if done.returncode == 0 else []


def _some(folder):
    """Return one file of each folder of modules, and a few of the first: packages share the folders."""
    found = []
    for place, _, names in os.walk(folder):
        found += [os.path.join(place, name) for name in sorted(names)[:1]]
        if len(found) >= 200:
            break
    return found


def _under_way():
    """Return the packages of a transaction that has not come to its end."""
    try:
        with open(UNDER_WAY, encoding="utf-8") as file:
            return [str(one) for one in json.load(file)]
    except FileNotFoundError:
        return []


def _by_half(names):
    return (
        f"rpm did not come to its end when it installed {', '.join(names)}: stage that kernel again, or remove it with "
        f"`rpm --erase {' '.join(names)}` and `rm {UNDER_WAY}`"
    )


def _forget():
    if os.path.exists(UNDER_WAY):
        os.unlink(UNDER_WAY)
