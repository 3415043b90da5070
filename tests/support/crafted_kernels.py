"""Debian packages of kernels that boot nothing: files where a kernel's are, and a postinst that runs update-grub."""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_POSTINST = "#!/bin/sh\nset -e\nupdate-grub\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class CraftedKernel:
    """One such package."""

    release: str
    path: Path
    image_sha256: str

    @property
    def package(self) -> Mapping[str, str]:
        """Return what the playbook takes."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"path": str(self.path), "name": self.path.name, "sha256": digest}


def crafted_kernel(directory: Path, release: str, *, control: str = "", postinst: str = _POSTINST) -> CraftedKernel:
    """Make a package in a directory; `control` are further lines of its control file."""
    tree = directory / f"tree-{release}"
    image = f"kernel {release}\n".encode()
    for name, content in {
        f"boot/vmlinuz-{release}": image,
        f"boot/initrd.img-{release}": b"ram disk\n",
        f"usr/lib/modules/{release}/modules.builtin": b"",
        f"usr/lib/modules/{release}/kernel/one.ko": b"module\n",
        "DEBIAN/control": f"Package: linux-image-{release}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\n"
        f"Description: nothing\n{control}".encode(),
        "DEBIAN/postinst": postinst.encode(),
    }.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tree / "DEBIAN" / "postinst").chmod(0o755)
    path = directory / f"linux-image-{release}_1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, path], check=True, capture_output=True)
    return CraftedKernel(release=release, path=path, image_sha256=hashlib.sha256(image).hexdigest())
