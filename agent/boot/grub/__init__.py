"""GRUB with a generated configuration, as on Debian and Ubuntu: environment, menu, refusals, and the loader of both."""
