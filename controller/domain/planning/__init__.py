"""A spec and a fleet become waves and a policy. Nothing here looks at what a rollout did."""
