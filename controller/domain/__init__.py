"""What a rollout is and what happens next. Pure: no I/O, clock, randomness, asyncio or protobuf may live here."""
