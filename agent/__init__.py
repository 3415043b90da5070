"""The agent that runs on every host.

Resident code imports grpcio, protobuf and structlog and nothing else beyond the standard library.
"""

__version__ = "0.1.0"
