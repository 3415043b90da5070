"""What connects decisions to the world: ports (Protocols), the loop, the operators' verbs, agents' sessions.

No vendor is imported here.
"""
