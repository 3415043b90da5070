"""What the agent can run: one module a workload, all behind `port`; each takes down everything it set up."""
