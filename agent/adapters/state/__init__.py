"""What the agent keeps on disk: durable files, journal, spool, credentials."""
