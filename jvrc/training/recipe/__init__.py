"""Recipes: their fields, rules and files. Nothing here imports JAX."""
