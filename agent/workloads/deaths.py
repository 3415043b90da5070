"""Whether the out-of-memory killer took a process of the workload."""

from agent.domain.numbers import is_number
from agent.workloads.port import Host

# Version 2 and version 1 count in different files under the same word.
_ACCOUNTS = ("memory.events", "memory.oom_control")


def killed_for_memory(host: Host) -> int:
    """Return how many processes the workload's cgroup has lost; 0 also where the kernel does not count them."""
    statistics = host.workers.statistics()
    for account in _ACCOUNTS:
        for line in statistics.get(account, "").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and is_number(value):
                return int(value)
    return 0
