"""Programs that do memory work in processes of their own, so that the agent's memory is not disturbed by it.

Each runs as `python -m agent.exercisers.NAME OPTIONS`, speaks the events and orders of agent.domain.work.exercises as
JSON lines, can be killed at any moment, and ends with the process that started it. Standard library and agent.domain
only.
"""
