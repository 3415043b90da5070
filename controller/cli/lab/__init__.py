"""`kernroll lab`."""
