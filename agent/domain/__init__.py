"""What the agent decides. Pure: no asyncio, time, randomness, subprocess, gRPC or protobuf may live here."""
