"""The stores that agents, workflows and workers use."""
