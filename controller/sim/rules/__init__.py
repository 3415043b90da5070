"""What must hold whatever happens, and who sees whether it does."""
