"""MCP: workflows and agents as tools of an MCP server, over HTTP at `/mcp` or over stdin and stdout. Extra `mcp`.

`tools` describes the tools, `handler` carries out a call as a run, `http` and `stdio` are the ways in. Imported by
`create_app(mcp=True)` and by `desist mcp` only.
"""
