"""The screen of `desist watch`. Only its `x` key cancels."""
