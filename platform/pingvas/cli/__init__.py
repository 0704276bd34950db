"""The command `pingvas`."""
