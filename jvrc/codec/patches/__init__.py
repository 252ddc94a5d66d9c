"""Blocks of a tile that are coded without the model: which they are, and what replaces them."""
