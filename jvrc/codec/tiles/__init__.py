"""The tiles of a file: what is known of each, its symbols and its streams."""
