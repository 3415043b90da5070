"""Workloads on a swap device of their own; fill is `swap_fill`, and so on."""
