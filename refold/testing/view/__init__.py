"""The rules of kept rows, by what they are about."""
