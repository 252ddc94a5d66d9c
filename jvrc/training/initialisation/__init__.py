"""The parameters that a new model begins with."""
