"""Programs that show Refold on real data: a shop and a bank."""
