"""AG-UI, A2A and MCP over the same run service."""
