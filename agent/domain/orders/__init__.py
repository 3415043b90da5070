"""What a controller may order: workloads' parameters, presets, and what is checked before anything starts."""
