"""The verbs of `kernroll-agent` beside the resident one."""
