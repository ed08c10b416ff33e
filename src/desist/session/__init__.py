"""Sessions: runs that belong together. The face of `desist.run.session`."""

from desist.run.session import AgentSession, WorkflowSession

__all__ = ["AgentSession", "WorkflowSession"]
