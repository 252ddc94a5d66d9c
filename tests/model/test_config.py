"""Claims about the configs of the architectures."""

import json
from dataclasses import dataclass, replace

import pytest

from jvrc.model.config import ARCHITECTURES as ALL
from jvrc.model.config import Config, config_of

ARCHITECTURES = tuple(name for name in ALL if name != "jvrc2026")
FIELDS = {"N": 64, "M": 192, "latent_scale": 2.0, "hyper_scale": 3.0, "log_scale": False}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_dict_that_model_ids_hash_is_this(architecture):
    config = config_of(architecture, **FIELDS)
    assert json.dumps(config.to_dict(), sort_keys=True) == (
        f'{{"M": 192, "N": 64, "architecture": "{architecture}", "hyper_scale": 3.0, '
        '"latent_scale": 2.0, "log_scale": false}'
    )
    assert config_of(**config.to_dict()) == config
    assert config_of(architecture).to_dict() == {
        "architecture": architecture,
        **{"N": 128, "M": 192, "latent_scale": 1.0, "hyper_scale": 1.0, "log_scale": True},
    }


def test_configs_are_equal_by_architecture_and_fields():
    configs = [config_of(name, N=n) for name in ARCHITECTURES for n in (4, 5)]
    assert len(set(configs)) == len(configs)
    assert replace(configs[0], N=5) == configs[1]


def test_architectures_differ_in_these():
    found = {name: config_of(name) for name in ARCHITECTURES}
    assert [c.predicts_mean for c in found.values()] == [False, True, True]
    assert [c.has_context for c in found.values()] == [False, False, True]
    assert found["mbt2018"].parts == (
        *found["mbt2018-mean"].parts,
        *("context", "entropy_parameters"),
    )


def test_an_architecture_may_have_other_fields():
    @dataclass(frozen=True)
    class Other(Config):
        architecture = "other"
        blocks: tuple[int, ...] = (1, 2)

    assert Other((3,)).to_dict() == {"architecture": "other", "blocks": (3,)}


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("elic2022", {}, "architecture must be one of bmshj2018-hyperprior, mbt2018-mean, mbt2018"),
        ("mbt2018", {"N": 0}, r"N must be an integer in 1..4096; got 0"),
        ("jvrc2026", {"M": 6}, "M must be a multiple of 4; got 6"),
        ("jvrc2026", {"fold": 3}, "fold must be a divisor of expansion; got 3"),
        ("jvrc2026", {"h_s_kernel": 2}, "h_s_kernel must be odd; got 2"),
        ("jvrc2026", {"g_a_blocks": -1}, "g_a_blocks must be an integer in 0..4096; got -1"),
        ("mbt2018", {"M": 1.5}, "M must be an integer"),
        ("mbt2018-mean", {"latent_scale": 0.0}, "latent_scale must be positive"),
        ("mbt2018-mean", {"hyper_scale": float("inf")}, "hyper_scale must be positive"),
    ],
)
def test_values_out_of_range_are_refused(architecture, fields, message):
    with pytest.raises(ValueError, match=message):
        config_of(architecture, **fields)
