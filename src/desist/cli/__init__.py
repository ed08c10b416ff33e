"""The command line: `desist`. Nothing imports this package.

The commands are in `desist.cli.commands`. They import what they need when they are called, so that `desist --version`
is quick.
"""

from desist.cli.program import app, main

__all__ = ["app", "main"]
