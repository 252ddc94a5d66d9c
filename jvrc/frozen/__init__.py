"""Frozen models: the type, its file, and the models that the package ships."""
