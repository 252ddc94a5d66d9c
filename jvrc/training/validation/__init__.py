"""Checks of a model: its loss on held-out images, and the extremes of what it predicts."""
