"""What package managers would do to kernels that must stay: whether they may remove them, and what keeps them.

`apt` and `dnf` each know their own; `held` asks whichever the host has.
"""
