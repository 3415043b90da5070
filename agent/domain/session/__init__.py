"""What agent and controller owe each other: commands, reports, the spool, what a boot left behind."""
