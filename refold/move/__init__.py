"""Logs that move: to files and back, and to another store, as they are or through a function."""
