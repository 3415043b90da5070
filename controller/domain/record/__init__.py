"""What is written down: events, effects, and the values in them. Nothing here parses a file, judges or decides."""
