"""What every workload stands on: swap devices, zram, zswap, settings, and undoing all of it."""
