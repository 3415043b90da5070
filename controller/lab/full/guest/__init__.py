"""What runs inside the machines: shell only, and no module of ours."""
