"""Evaluation on images: distortion, rates, BD-rates, other codecs and the report of `jvrc eval`."""
