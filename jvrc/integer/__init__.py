"""The networks that decide probabilities, on integers: the same result on every machine."""
