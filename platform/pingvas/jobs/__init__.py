"""Generation jobs: accepted, dispatched, run under a lease, ended once."""
