"""The command line: `desist`. Nothing imports this package.

The commands are in `desist.cli.commands`. A command imports its dependencies when it is called, so that
`desist --version` is fast.
"""

from desist.cli.program import app, main

__all__ = ["app", "main"]
