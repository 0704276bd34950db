"""Pictures: their rows, and where their bytes lie in the object store."""
