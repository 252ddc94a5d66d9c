"""Fitting the scale refinement of a frozen jvrc2026 (jvrc.integer.scale_refinement)."""
