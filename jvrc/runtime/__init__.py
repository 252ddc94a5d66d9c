"""The process that jvrc runs in: compilation cache, memory, optional dependencies."""
