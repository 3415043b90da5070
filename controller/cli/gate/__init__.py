"""`kernroll gate`."""
