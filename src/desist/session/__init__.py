"""Sessions: runs that belong together. The face of `desist.run.agent_session` and `desist.run.workflow_session`."""

from desist.run.agent_session import AgentSession
from desist.run.workflow_session import WorkflowSession

__all__ = ["AgentSession", "WorkflowSession"]
