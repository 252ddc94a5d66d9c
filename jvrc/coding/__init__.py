"""From integers to bytes and back: range coder, tables, escapes and the file format."""
