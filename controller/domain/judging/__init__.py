"""From what was recorded to the gate's words, and from its verdicts back to hosts and strata. No step is decided."""
