"""What a run needs of a store: protocols, values, and the store in memory."""
