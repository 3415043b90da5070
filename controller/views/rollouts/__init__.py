"""A rollout as its operators see it: its state, what it waits for and why, what changed."""
