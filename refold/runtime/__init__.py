"""The runtime: loading states, executing commands, keeping projections and processes up with the log."""
