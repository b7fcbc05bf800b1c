"""Programs that show Refold on real data: a shop, with two contexts that live from what it publishes, and a bank."""
