"""Images to bytes and back, with a frozen model."""
