"""Numbers in, bounds and decisions out: ranks, sequences, contrasts, families. Knows nothing of kernels or hosts."""
