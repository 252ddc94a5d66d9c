"""Training: `jvrc train` makes a base model, `jvrc posttrain` one for all rates.

Needs the extra `train`. The recipe modules import no JAX.
"""
