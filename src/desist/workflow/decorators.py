"""Public import path of `pause`."""

from desist.workflow.human_review import pause

__all__ = ["pause"]
