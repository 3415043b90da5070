"""systemd-boot: its EFI variables, its entries in their order, refusals, and the loader of all three."""
