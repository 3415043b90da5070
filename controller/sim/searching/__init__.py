"""Many runs: campaigns, and small cases from large ones."""
