"""`withdrawals …`: the command line. A command parses, calls one service, and prints; no rule lives here."""

from ops.cli.app import main

__all__ = ["main"]
