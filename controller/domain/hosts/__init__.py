"""What a host is and what may be asked of it: facts, expressions over them, strata. No rollout, no file."""
