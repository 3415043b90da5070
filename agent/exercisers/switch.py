"""Switches swap on and off by the system calls themselves, and tells when each began, ended, and with what error."""

import ctypes
import os
import time

from agent.domain.work.exercises import Called, Calling, Ready, SwitchOff, SwitchOn, SwitchOptions
from agent.exercisers.process import Orders, emit, run_exerciser

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Be the program."""
    run_exerciser(SwitchOptions, switch)


def switch(options: SwitchOptions, orders: Orders) -> None:
    """Make one call an order."""
    emit(Ready(pid=os.getpid()))
    for order in orders:
        match order:
            case SwitchOn(device=device):
                emit(Calling())
                path = os.fsencode(device)
                begun = time.monotonic()
                failed = _libc.swapon(path, 0)
            case SwitchOff(device=device):
                emit(Calling())
                path = os.fsencode(device)
                begun = time.monotonic()
                failed = _libc.swapoff(path)
            case _:
                continue
        number = ctypes.get_errno() if failed else 0
        emit(Called(begun_s=begun, ended_s=time.monotonic(), errno=number))


if __name__ == "__main__":
    main()
