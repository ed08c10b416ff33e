"""A2A: workflows and agents as agents of that protocol (1.0 and 0.3), over JSON-RPC. Needs the extra `a2a`.

`card` describes one, `encoder` makes the protocol's tasks and updates of runs, `handler` answers requests, `routes` is
where. A task is a run: there is no second record of it. Imported by `create_app(a2a=...)` only.
"""
