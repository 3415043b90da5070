"""The `kernroll` command line: one module a group of verbs, rendering the view models of controller.views.

Nothing is decided here. Modules import what they need inside the commands, so that `--help` stays fast.
"""

from controller.cli.app import main

__all__ = ["main"]
