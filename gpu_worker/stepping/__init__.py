"""One denoising step for many requests at once: trajectories, samplers as tables, batches."""
