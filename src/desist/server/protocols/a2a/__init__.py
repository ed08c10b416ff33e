"""A2A 1.0 and 0.3 over JSON-RPC: workflows and agents as agents of the protocol. Needs the extra `a2a`.

`encoder` converts runs to tasks and updates, `handler` answers requests, `routes` has the routes and the agent cards. A
task is a run; there is no separate record. Imported by `create_app(a2a=...)` only.
"""
