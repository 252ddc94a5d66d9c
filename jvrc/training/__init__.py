"""Training of base models; needs the `train` extra."""
