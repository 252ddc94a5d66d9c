"""The networks that choose CDF tables, in integer arithmetic: equal results on every machine."""
