"""Benchmarks of the engine: `python -m gpu_worker.bench`. They print tables and judge nothing."""
