"""From trained parameters to a frozen model."""
