"""The loop: what is learnt is recorded, what follows decided, persisted, performed; deliveries and checks watched."""
