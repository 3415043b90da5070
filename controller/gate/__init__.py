"""The judge: numbers in, a verdict with reasons out. Pure, and knows nothing of rollouts, clocks or databases."""
