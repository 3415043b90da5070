"""A kernel on trial: what was booted and how it ended, the deadlines by which it must prove itself, and who keeps them.

`ledger` is pure; nothing here knows a boot loader but through the port.
"""
