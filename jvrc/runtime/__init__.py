"""The process that jvrc runs in: programs on disk, devices, SIGINT, streams, memory, extras."""
