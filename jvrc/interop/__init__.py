"""Models of other projects as models of ours. Nothing here downloads anything.

CompressAI (https://github.com/InterDigitalInc/CompressAI) publishes trained weights: single-rate
`bmshj2018-hyperprior`, `mbt2018-mean` and `mbt2018`, eight qualities each, and variable-rate ones,
`…-vbr`, N = 192, M = 320. Its documentation lists them under "Model Zoo"
(https://interdigitalinc.github.io/CompressAI/zoo.html). Where it is installed, its functions of
these names fetch them, and PyTorch keeps the files `….pth.tar` in the folder `hub/checkpoints` of
its cache, for `jvrc import-compressai`; or, without a file between:

    net = compressai.zoo.mbt2018_mean_vbr(pretrained=True)
    model = jvrc.interop.from_compressai(net.state_dict())

Their licence is their authors' to state.
"""

from jvrc.interop.compressai import from_compressai, qsteps, to_params

__all__ = ["from_compressai", "qsteps", "to_params"]
