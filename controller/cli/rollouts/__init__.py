"""`kernroll rollout` and `kernroll spec`."""
