"""Many runs: what to run, running it, keeping the results."""
