"""The exit codes of `kernroll-agent`."""

from enum import IntEnum


class Exit(IntEnum):
    """One number, one meaning."""

    OK = 0
    KERNEL_WANTING = 1
    USAGE = 2
    UNREACHABLE = 3
    ENROLLMENT = 4
    RIG = 5
    CANCELLED = 130

    @property
    def meaning(self) -> str:
        """Return the sentence that --help prints."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done",
    Exit.KERNEL_WANTING: "the workload ran and found the kernel wanting",
    Exit.USAGE: "wrong arguments or configuration",
    Exit.UNREACHABLE: "the controller does not answer; worth trying again",
    Exit.ENROLLMENT: "no valid client certificate; needs a new join token",
    Exit.RIG: "the host lacks something: a tool, a device, a right, disk space",
    Exit.CANCELLED: "cancelled",
}


def table() -> str:
    """Return the exit codes as lines for --help."""
    return "\n".join(f"  {code.value:3}  {code.meaning}" for code in Exit)
