"""Sessions: runs that belong together. The face of `desist.run.outputs.agent_session` and
`desist.run.outputs.workflow_session`.
"""

from desist.run.outputs.agent_session import AgentSession
from desist.run.outputs.workflow_session import WorkflowSession

__all__ = ["AgentSession", "WorkflowSession"]
