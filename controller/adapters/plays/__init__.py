"""Runs playbooks over hosts, with ansible-runner in a process of its own; and makes what they put on hosts.

Nothing here knows what a rollout is. Only `play` imports ansible-runner, and only as a program of its own.
"""
