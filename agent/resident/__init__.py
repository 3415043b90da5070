"""The agent that stays: composed, connected, running what it is told."""
