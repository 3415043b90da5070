"""What events add up to: folds of one attempt, one rollout, and what one decision sees. Nothing here decides."""
