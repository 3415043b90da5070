"""GRUB with a generated configuration, as on Debian and Ubuntu, or with entries in files, as on Fedora."""
