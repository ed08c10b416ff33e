"""AG-UI: runs told as the events of that protocol (version 1.0), over server-sent events.

`schemas` is what its clients send, `encoder` makes its events of ours, `routes` is where. Nothing is imported from the
protocol's own packages: the tests hold it against those.
"""
