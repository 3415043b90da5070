"""What touches the world: files, devices, processes and the network. Thin; decisions live in agent.domain."""
