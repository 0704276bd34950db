"""Benchmarks of the queues and of the API in front of them: `python -m tasks.bench`."""
