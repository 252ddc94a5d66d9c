"""The networks and entropy models, as pure functions on pytrees of parameters."""
