"""`kernroll hosts` and `kernroll fleet`."""
