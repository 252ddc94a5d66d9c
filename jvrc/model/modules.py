"""A Flax (linen) module that holds the parameters; needs the `train` extra."""

import flax.linen as nn
from jax import Array

from jvrc.model import hyperprior
from jvrc.model.config import Config


class VariableRateModel(nn.Module):
    """`VariableRateModel(config).init(key, x, qstep)`, then `.apply(variables, x, qstep)`.

    Pass `rngs={"noise": key}` for the noisy rates of training. The parameters are the pytree of
    `hyperprior.init_params`, so either form serves the other.
    """

    config: Config

    @nn.compact
    def __call__(self, x: Array, qstep: Array) -> hyperprior.Forward:
        fresh = {}

        def init(key: Array, name: str) -> dict:
            if not fresh:
                fresh.update(hyperprior.init_params(key, self.config))
            return fresh[name]

        params = {name: self.param(name, init, name) for name in self.config.parts}
        key = self.make_rng("noise") if self.has_rng("noise") else None
        return hyperprior.forward(self.config, params, x, qstep, key)
