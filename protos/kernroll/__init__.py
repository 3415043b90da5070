"""The wire contract, by major version."""
