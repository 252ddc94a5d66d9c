"""How y is quantised, coded and reconstructed, for each architecture."""
