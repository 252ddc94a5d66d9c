"""Small configs of every architecture, for tests."""

from jvrc.model.config import Config, config_of


def small_config(architecture: str, *, N: int = 4, M: int = 6, **scales: float) -> Config:
    """Return a config with N channels of z and about M channels of y, and the scales given."""
    if architecture != "jvrc2026":
        return config_of(architecture, N=N, M=M, **scales)
    sizes = {"C": 6, "M": -(-M // 4) * 4, "N": N, "K": 7, "H": 6, "E": 3}
    blocks = {"g_a_blocks": 1, "g_s_blocks": 2, "context_blocks": 1}
    return config_of(architecture, **sizes, **blocks, h_s_kernel=1, **scales)
