"""The shop's program as it was in four years; each reads all that those before it have recorded."""
