"""Rpm packages of kernels that boot nothing, made by rpmbuild: the fields and files of Fedora's kernel-core."""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from boot_machine import programs
from crafted_kernels import CraftedKernel

from controller.adapters.kernels.debian.suites import has_host_packages

_SPEC = """\
Name: {name}
Version: {version}
Release: {build}
Summary: nothing
License: GPL-2.0-only
Provides: installonlypkg(kernel)
{fields}
%description
Nothing.
%files
%defattr(-,root,root,-)
{files}
{scriptlets}
"""
_LIBRARIES = ("usr/lib", "usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpm:
    """What a package is to be."""

    files: Mapping[str, bytes]
    name: str = "kernel-core"
    version: str = "6.12.0"
    build: str = "55.el10"
    architecture: str = "x86_64"
    # What is named in it and is not there.
    ghosts: tuple[str, ...] = ()
    # Further lines of the head, and what runs when it is installed or removed.
    fields: str = ""
    scriptlets: str = ""


@functools.cache
def rpm_tree() -> Path:
    """Return Debian's rpm and dnf, unpacked into the cache; nothing is installed on this machine."""
    return programs("rpm", "rpm", "dnf")


def rpm_environment() -> Mapping[str, str]:
    """Return the variables with which rpm's programs are found: none for those of this machine, else Debian's."""
    if all(map(shutil.which, ("rpm", "rpmbuild", "rpm2archive"))):
        return {}
    if not has_host_packages():
        pytest.skip("needs rpm, or Debian's packages of it")
    tree = rpm_tree()
    return {
        "PATH": f"{tree}/usr/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": ":".join(str(tree / one) for one in _LIBRARIES if (tree / one).is_dir()),
        "RPM_CONFIGDIR": str(tree / "usr/lib/rpm"),
    }


def build(directory: Path, rpm: Rpm) -> Path:
    """Build a package into a directory."""
    work = directory.parent / f".work-{directory.name}-{rpm.name}-{rpm.version}-{rpm.build}-{rpm.architecture}"
    tree = work / "tree"
    for place, content in rpm.files.items():
        target = tree / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    directory.mkdir(parents=True, exist_ok=True)
    for place in rpm.ghosts:
        (tree / place.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tree / place.lstrip("/")).touch()
    (work / "top").mkdir(parents=True)
    text = _SPEC.format(
        name=rpm.name,
        version=rpm.version,
        build=rpm.build,
        fields=rpm.fields,
        files="\n".join((*rpm.files, *(f"%ghost {one}" for one in rpm.ghosts))),
        scriptlets=rpm.scriptlets,
    )
    (work / "package.spec").write_text(text)
    file_name = f"{rpm.name}-{rpm.version}-{rpm.build}.{rpm.architecture}.rpm"
    settings = {
        "_topdir": work / "top",
        "_rpmdir": directory,
        "_rpmfilename": file_name,
        "_build_id_links": "none",
        "__os_install_post": "%{nil}",
        # Each is small, and nobody waits for it to be packed.
        "_binary_payload": "w0.gzdio",
    }
    options = [word for key, value in settings.items() for word in ("--define", f"{key} {value}")]
    command = ["rpmbuild", "-bb", "--quiet", f"--buildroot={tree}", "--target", rpm.architecture, *options]
    done = subprocess.run(
        [*command, work / "package.spec"],
        env={**os.environ, **rpm_environment(), "HOME": str(work)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory / file_name


def rpm_kernel(directory: Path, release: str, *, fields: str = "", post: str = "", image: bytes = b"") -> CraftedKernel:
    """Build a kernel's package as Fedora's kernel-core is; `post` runs before what Fedora's own scripts do.

    Without an image it boots nothing.
    """
    image = image or f"kernel {release}\n".encode()
    path = build(
        directory,
        Rpm(
            files={
                f"/lib/modules/{release}/vmlinuz": image,
                f"/lib/modules/{release}/modules.builtin": b"",
                f"/lib/modules/{release}/kernel/one.ko": b"module\n",
            },
            version=release.replace("-", "_"),
            build="1",
            architecture=platform.machine(),
            fields=fields,
            scriptlets=(
                f"%post\n{post}kernel-install add {release} /lib/modules/{release}/vmlinuz\n"
                f"%preun\nkernel-install remove {release} /lib/modules/{release}/vmlinuz\n"
            ),
        ),
    )
    return CraftedKernel(release=release, path=path, image_sha256=hashlib.sha256(image).hexdigest())
