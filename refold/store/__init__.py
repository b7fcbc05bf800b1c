"""The log: one port, one file for each backend."""
