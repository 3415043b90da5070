"""The fault file: parsed, checked, and what it does to the controller."""
