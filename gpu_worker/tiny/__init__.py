"""The built-in text-to-image model: a small world, and everything that trains and judges a model of it."""
