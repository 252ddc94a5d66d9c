"""Frozen models: their type, their weights file, and the models that the package ships."""
