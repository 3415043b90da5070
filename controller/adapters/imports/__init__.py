"""What other tools keep, read with their own programs or formats: inventories, benchmark files."""
