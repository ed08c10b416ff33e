"""Blocking work beside the loop: name look-ups, slow imports, certificates. The face of `desist.cancel.aside`."""

from desist.cancel.aside import aside

__all__ = ["aside"]
