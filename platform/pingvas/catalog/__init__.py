"""The model catalogue: what can be generated with, within which bounds, and at what price."""
