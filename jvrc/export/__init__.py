"""From trained parameters to a frozen model, whose tables and networks are integers."""
