"""One image at one quantisation step: its encoder, its decoder, and the PSNR."""
