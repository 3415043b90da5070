"""One boot by the firmware's BootNext, for hosts whose GRUB can read its environment and cannot clear it.

The default stays GRUB's own, through its loader; what is here knows variables, the EFI system partition and the copies.
"""
