"""The training state and its updates: optimisers, learning rates and moving averages."""
