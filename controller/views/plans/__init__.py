"""What a rollout would do: waves, pace, and what the fleet can see."""
