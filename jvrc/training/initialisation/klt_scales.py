"""The constants of a model that begins with the KLT initialisation; `klt` has its weights.

They are apart from it because recipes need them, and recipes must be readable without JAX.
"""

from dataclasses import replace

from jvrc.model.config import Config, Jvrc2026Config

# An orthonormal coefficient is quantised with a step of UNIT (of a range of 1) at Delta = 1:
# the high-rate optimum for lambda = 0.18 is sqrt(18 / (ln 2 * 0.18 * 255^2)) = 0.047.
UNIT = 0.06
GAIN = 4.0  # activations are this times an average over their block, large enough for GDN to act
HYPER_UNIT = 8.0


def klt_config(config: Config) -> Config:
    """Return `config` with the latent and hyper scales that go with `klt.klt_params`."""
    # 2018: four levels halve an orthonormal transform (norm 2 each): averages stay averages
    gain = 1.0 if isinstance(config, Jvrc2026Config) else GAIN / 16
    return replace(config, latent_scale=1 / (UNIT * gain), hyper_scale=HYPER_UNIT)
