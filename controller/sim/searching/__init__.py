"""Many runs: campaigns, sweeps over every commit, and small cases from large ones."""
