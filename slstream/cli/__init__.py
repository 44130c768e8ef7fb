"""The command line: one module per command, none with logic of its own."""

from slstream.cli.program import main

__all__ = ["main"]
