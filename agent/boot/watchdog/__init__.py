"""Whether a kernel that hangs ends by itself: which watchdogs there are, who keeps them, and from when in a boot on.

`devices` reads what is so, `early` what lies on the disk for a kernel, and `gaps` says what is missing. Nothing here
changes anything: a watchdog is opened by systemd, as its settings say.
"""
