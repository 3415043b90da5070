"""How long tests wait for what is to happen: far longer than any machine takes, however much else it has to do.

What is ready happens at once, so that a generous deadline costs nothing; it only ends what would hang for ever.
"""

PATIENCE_S = 300.0
