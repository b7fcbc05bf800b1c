"""The command line: look at a log, at states, and at how an app is wired."""

from refold.cli.main import main

__all__ = ["main"]
