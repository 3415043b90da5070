"""`kernroll sim`."""
