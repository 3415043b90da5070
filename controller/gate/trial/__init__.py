"""A designed trial: its plan, its blocks, its cells, and the judgement of all of it."""
