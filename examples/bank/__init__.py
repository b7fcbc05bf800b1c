"""A bank on fifteen months of real transactions; begin with accounts.py."""
