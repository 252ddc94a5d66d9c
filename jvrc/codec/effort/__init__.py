"""Searches for better symbols of y: the encoder's option `effort`."""
