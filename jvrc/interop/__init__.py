"""Conversion of models of other projects. Nothing here downloads anything.

CompressAI (https://github.com/InterDigitalInc/CompressAI) publishes trained weights: single-rate
`bmshj2018-hyperprior`, `mbt2018-mean` and `mbt2018`, eight qualities each, and variable-rate ones,
`…-vbr`, N = 192, M = 320. Its documentation lists them under "Model Zoo"
(https://interdigitalinc.github.io/CompressAI/zoo.html). Its functions of these names download them,
and PyTorch keeps the files `….pth.tar` in the folder `hub/checkpoints` of its cache, for
`jvrc import-compressai`. Without a file:

    net = compressai.zoo.mbt2018_mean_vbr(pretrained=True)
    model = jvrc.interop.from_compressai(net.state_dict())

CompressAI's authors state the licence of their weights.
"""

from jvrc.interop.compressai import from_compressai, qsteps, to_params

__all__ = ["from_compressai", "qsteps", "to_params"]
