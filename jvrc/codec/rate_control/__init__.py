"""Files of so many bytes, or of a PSNR: the search for the quantisation step."""
