"""AG-UI 1.0 over server-sent events.

`schemas` has the requests, `encoder` converts our events to those of the protocol, `routes` has the routes. Nothing is
imported from the protocol's own packages; the tests compare with them.
"""
