"""kernroll-boot: which kernel this host boots next, and by default. Python's own library and the system's tools only.

Agent and playbooks start it as a program; nothing of the agent is imported here, so that it works where no agent does.
"""
