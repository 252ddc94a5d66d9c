"""Measures of quality and rate for evaluation; the codec imports nothing from here."""
