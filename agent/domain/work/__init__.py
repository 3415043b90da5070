"""What workloads measure and leave: exercises, recordings, selftests, leftovers."""
