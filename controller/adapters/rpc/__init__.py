"""gRPC: the services agents and operators call, the client the command line uses, and the mapping to domain values."""
