"""Lines of kernel logs that an operator knows and excepts: an entry of rollout files and of gate plans."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from controller.domain.spec_base import Model, Text
from controller.gate.kernel_log import KnownLine

MAX_KNOWN_LINES: Final = 50
# What every line of a kind has; an exception made of nothing else would except the whole kind.
_OF_EVERY_LINE: Final = re.compile(
    r"WARNING|INFO|BUG|Oops|CPU|PID|UID|Comm|Kernel panic|kernel BUG|not syncing|general protection fault"
    r"|Unable to handle|kernel|unable to handle|page fault|for address|blocked|for more than|seconds"
    r"|task|at|mm|in|\W|[\d_]"
)
_FEWEST_LETTERS: Final = 5


def _particular(value: str) -> str:
    if len(_OF_EVERY_LINE.sub("", value)) < _FEWEST_LETTERS:
        raise ValueError(
            'excepts more than one fault; write the line as the log has it, or its place: "mm/swapfile.c swap_free_nr"'
        )
    return value


class KnownLineEntry(Model):
    """A line that counts for neither kernel wherever it is written, and is told with its reason."""

    # The line as the log has it, or a part of it or of its signature; numbers and addresses may differ.
    line: Annotated[Text, AfterValidator(_particular)]
    # Why it may be written.
    reason: Text

    @property
    def known_line(self) -> KnownLine:
        """The entry as the gate takes it."""
        return KnownLine(line=self.line, reason=self.reason)
