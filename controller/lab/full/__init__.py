"""Machines that boot as an ordinary Debian host does: own disk, boot loader, systemd, sshd, apt.

Here live what their disks are made of, the running machines, and the package repository they install kernels from.
Which kernel a machine boots is its own boot loader's business; nothing here ever hands one to QEMU, except for the one
boot in which a new disk is given its boot loader.
"""
