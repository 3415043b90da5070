"""The host under the agent: processes, control groups, devices, the kernel log."""
