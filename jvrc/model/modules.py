"""The whole model as a Flax (linen) module; needs the extra `train`.

    model = VariableRateModel(config)
    params = model.init(key, x, qstep)["params"]
    out = model.apply({"params": params}, x, qstep, rngs={"noise": key})

Its parts are in jvrc.model.parts, those of jvrc2026 in jvrc.model.parts2026; the arithmetic is that
of jvrc.model.architectures.
"""

import flax.linen as nn
import jax
from jax import Array

from jvrc.model import architectures, parts, parts2026, variable_rate
from jvrc.model.config import ENCODER_PARTS, Config, Jvrc2026Config
from jvrc.model.latents import Forward, Latents
from jvrc.runtime import devices

SOFTPLUS_INVERSE_OF_1 = 0.5413


class VariableRateModel(nn.Module):
    """The whole model. The call returns `Forward`: reconstructions and rates at one qstep an image.

    With rngs={"noise": key}, rates are those of training (additive noise), otherwise those of
    rounded latents. `analyse` needs only the parameters of g_a and h_a, `reconstruct_and_rate` only
    the others: apply them with method="analyse" or method="reconstruct_and_rate".
    """

    config: Config

    def setup(self) -> None:
        for name, module in _modules_of(self.config).items():
            setattr(self, name, module)

    def parameters(self, *names: str) -> dict:
        """Return the parameters of the named parts; of all parts where none is named."""
        return {name: getattr(self, name).parameters() for name in names or self.config.parts}

    def __call__(self, x: Array, qstep: Array) -> Forward:
        key = self.make_rng("noise") if self.has_rng("noise") else None
        return architectures.forward(self.config, self.parameters(), x, qstep, key)

    def analyse(self, x: Array) -> Latents:
        return architectures.analyse(self.config, self.parameters(*ENCODER_PARTS), x)

    def reconstruct_and_rate(
        self, latents: Latents, qstep: Array, noise: Latents | None = None
    ) -> Forward:
        names = [name for name in self.config.parts if name not in ENCODER_PARTS]
        params = self.parameters(*names)
        return architectures.reconstruct_and_rate(self.config, params, latents, qstep, noise)


def _modules_of(config: Config) -> dict[str, nn.Module]:
    """Return the module of each part of a model."""
    made = {
        "h_a": parts.HyperAnalysis(config),
        "h_s": parts.HyperSynthesis(config),
        "bottleneck": parts.EntropyBottleneck(config.N),
        "offset": parts.MLP(variable_rate.OFFSET_SIZES),
        "z_step": parts.MLP(variable_rate.Z_STEP_SIZES, last_bias=SOFTPLUS_INVERSE_OF_1),
    }
    if isinstance(config, Jvrc2026Config):
        made |= {"g_a": parts2026.Analysis(config), "g_s": parts2026.Synthesis(config)}
        return made | {"context": parts2026.ContextModel(config), "delta": parts2026.Delta(config)}
    made |= {"g_a": parts.Analysis(config), "g_s": parts.Synthesis(config)}
    if config.has_context:
        made["context"] = parts.ContextModel(config)
        made["entropy_parameters"] = parts.EntropyParameters(config)
    return made


def init_params(key: Array, config: Config) -> dict:
    """Return new parameters: those of `VariableRateModel(config).init`, without a forward pass.

    The CPU draws them: an accelerator would take longer to compile.
    """
    if isinstance(key, jax.core.Tracer):
        return _draw(key, config)
    with jax.default_device(devices.cpu()):
        return draw_now(key, config)


def _draw(key: Array, config: Config) -> dict:
    return VariableRateModel(config).init(key, method="parameters")["params"]


# Compiling takes longer than drawing: with all optimisations seven times as long as without.
_QUICK = {"xla_backend_optimization_level": 0}
draw_now = jax.jit(_draw, static_argnums=1, compiler_options=_QUICK)
