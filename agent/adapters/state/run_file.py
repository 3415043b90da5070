"""The runs of one local command on disk, a JSON object a line, each as soon as it has ended."""

import re
import time
from dataclasses import asdict
from pathlib import Path

from agent.adapters.state.durable import Journal, sync_directory
from agent.domain.results import WorkloadRun

# Commands whose runs are kept beside the present one's.
_FORMER_COMMANDS = 9
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-\w+\.jsonl")


def run_files_of(state_dir: Path) -> Path:
    """Return where local commands keep their runs."""
    return state_dir / "runs"


class RunFile:
    """Keeps the runs of one command; the oldest commands' files give way to it."""

    def __init__(self, directory: Path, *, workload: str, begun_at: float) -> None:
        """`begun_at` is in seconds since the Unix epoch, and names the file."""
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(begun_at))
        self.path = directory / f"{moment}.{int(begun_at % 1 * 1000):03d}Z-{workload}.jsonl"
        self._journal = Journal(self.path)
        # Ended, and not on disk yet.
        self._owed: list[WorkloadRun] = []
        self.kept_runs = 0

    def add(self, run: WorkloadRun) -> str:
        """Make a run durable; return why the disk does not take it, empty when it does. The next one tries again."""
        self._owed.append(run)
        try:
            if not self.path.exists():
                self._make_room()
            self._journal.append(asdict(each) for each in self._owed)
        except OSError as error:
            return str(error)
        self.kept_runs += len(self._owed)
        self._owed = []
        return ""

    def _make_room(self) -> None:
        directory = self.path.parent
        if not directory.exists():
            directory.mkdir(mode=0o700)
            sync_directory(directory.parent)
        # Their names sort as the moments at which they began.
        for former in sorted(each for each in directory.iterdir() if _NAME.fullmatch(each.name))[:-_FORMER_COMMANDS]:
            # What is no file is nothing of ours.
            if not former.is_dir():
                former.unlink()
