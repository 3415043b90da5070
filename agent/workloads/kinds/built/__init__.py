"""Workloads that build something from a kernel's source."""
