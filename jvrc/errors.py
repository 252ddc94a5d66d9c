"""The exception classes of jvrc's own."""


class BitstreamError(ValueError):
    """Raised for bytes that a model can't decode: damaged, truncated, of another model."""
