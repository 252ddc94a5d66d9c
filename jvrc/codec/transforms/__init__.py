"""g_a, h_a, h_s and g_s on images of any size, and on parts of them."""
