"""What is due now: steps, waves, turns, checks, and what operators ask for. Pure: a snapshot in, a decision out."""
