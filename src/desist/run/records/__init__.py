"""Values that are stored and sent. Events and execution are in other packages."""
