"""A shop on six thousand real orders; begin with orders.py."""
