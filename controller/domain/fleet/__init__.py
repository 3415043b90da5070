"""Operators' decisions about the whole fleet: inventories, freezes, denied kernels. No rollout's own state."""
