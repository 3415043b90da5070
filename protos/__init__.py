"""The contract between controller and agent: the only code both processes import.

Generated modules live below; nothing else may.
"""
