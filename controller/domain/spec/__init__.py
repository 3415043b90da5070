"""The rollout file that an operator writes: parsed, checked, explained. Nothing here knows what became of it."""
