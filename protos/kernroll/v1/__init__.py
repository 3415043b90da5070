"""Version 1 of the wire contract: .proto files and the modules generated from them by `make proto`."""
