"""A run and its folder: devices, time, how it ends, and the files that it writes."""
