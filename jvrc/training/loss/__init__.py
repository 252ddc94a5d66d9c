"""What training minimises: rate-distortion objectives, in which outliers count less."""
