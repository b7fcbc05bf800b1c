"""Benchmarks, run by hand: Refold beside a raw loop over the same tables, and beside its peers."""
