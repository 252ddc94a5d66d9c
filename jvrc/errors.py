"""Errors that callers may want to catch."""


class BitstreamError(ValueError):
    """Not a stream that this model can decode: damaged, truncated, foreign or too new."""
