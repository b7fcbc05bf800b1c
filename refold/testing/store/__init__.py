"""The rules of the store contract, by theme."""
