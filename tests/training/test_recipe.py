"""Recipes: their rules, the recipes that come with jvrc, and reading those of earlier versions."""

import dataclasses
import json
from dataclasses import replace

import pytest
from small import small_config

from jvrc.model.config import ARCHITECTURES, config_of
from jvrc.training.recipe import files
from jvrc.training.recipe.files import Stage, read_recipe, read_stages, save_recipe
from jvrc.training.recipe.schema import MultiRateRecipe, SingleRateRecipe

# (number of stages, training steps of all, sum of seeds, last learning rate) of each shipped recipe
SHIPPED = {
    "jvrc2026": (1, 34_000, 0, 0.001),
    "bmshj2018-hyperprior": (10, 13_900, 295, 0.0003),
    "mbt2018": (8, 34_100, 204, 0.0006),
    "mbt2018-mean": (10, 96_000, 158, 0.0006),
    "mbt2018-mean-n128": (1, 30_000, 31, 0.001),
    "mgda-ablation": (2, 6828, 1, 0.0005),
}
STAGES = [
    pytest.param(name, stage, id=f"{name}: {stage.name}")
    for name, path in files.shipped_recipes().items()
    for stage in read_stages(path)
]


def test_the_shipped_recipes_are_these():
    found = {}
    for name, path in files.shipped_recipes().items():
        recipes = [stage.recipe for stage in read_stages(path)]
        steps, seeds = sum(r.steps for r in recipes), sum(r.seed for r in recipes)
        found[name] = (len(recipes), steps, seeds, recipes[-1].learning_rate)
    assert found == SHIPPED


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_each_stage_of_a_shipped_recipe_trains_its_model(name, stage):
    recipe, config = stage.recipe, stage.recipe.config()
    expected = "mbt2018-mean" if name in ("mgda-ablation", "mbt2018-mean-n128") else name
    assert config.architecture == expected
    low, high = recipe.qstep_range()
    if name == "jvrc2026":
        assert (low, high) == (0.8, 18)
    else:
        assert 1 <= low <= high <= 16


@pytest.mark.parametrize("name", SHIPPED)
def test_stages_of_a_recipe_have_names_of_their_own(name):
    names = [stage.name for stage in read_stages(files.recipe_path(name))]
    assert len(set(names)) == len(names)


TWO = """
n = 16
[[stage]]
name = "first"
command = "train"  # a comment
qstep_high = 8
[[stage]]
name = "second"
command = "posttrain"
transforms_from = "another run"
qsteps = [4, 2.0]
n = 8
"""


def test_fields_above_the_stages_belong_to_all_and_missing_ones_take_defaults(tmp_path):
    (tmp_path / "r.toml").write_text(TWO, encoding="utf-8")
    assert read_stages(tmp_path / "r.toml") == [
        Stage("first", SingleRateRecipe(n=16, qstep_high=8)),
        Stage("second", MultiRateRecipe(n=8, qsteps=(4, 2.0)), "another run"),
    ]


@pytest.mark.parametrize(("which", "index"), [(None, 0), ("1", 0), ("second", 1), ("2", 1)])
def test_a_stage_is_chosen_by_name_or_number(tmp_path, which, index):
    (tmp_path / "r.toml").write_text(TWO, encoding="utf-8")
    path = files.recipe_path(tmp_path / "r.toml")
    assert files.stage_index(path, read_stages(path), which) == index
    for wrong in ("third", "0", "3", ""):
        with pytest.raises(ValueError, match=r"stage must be one of first, second, .*up to 2"):
            files.stage_index(path, read_stages(path), wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage = [", "not a recipe"),
        ("n = 16", r"must have \[\[stage\]\] tables"),
        ("stage = 3", r"must have \[\[stage\]\] tables"),
        ("[[stage]]\ncommand = 'train'", "stage 1: needs a name"),
        ("[[stage]]\nname = 'a'\ncommand = 'freeze'", "command must be one of train, posttrain"),
        ("[[stage]]\nname = 'a'\ncommand = 'train'\nlambda = 1", "unknown recipe fields: lambda"),
        ("[[stage]]\nname = 'a'\ncommand = 'train'\nsteps = 0", "steps must be in .*; got 0"),
        ("[[stage]]\nname = 'a'\ncommand = 'train'\nqsteps = [1]", "unknown recipe fields: qsteps"),
    ],
)
def test_a_toml_file_that_is_no_recipe_is_refused(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_stages(tmp_path / "r.toml")
    assert "r.toml" in str(caught.value)


SIZES = {"C": 6, "K": 7, "g_s_blocks": 2}


@pytest.mark.parametrize(
    "recipe",
    [
        SingleRateRecipe(n=8, m=12, steps=7),
        MultiRateRecipe(qsteps=(8.0, 2.0), seed=3),
        SingleRateRecipe(model="jvrc2026", n=8, m=12, sizes=SIZES, weight_decay=0.03),
    ],
)
def test_a_saved_recipe_is_read_back_as_what_it_is(tmp_path, recipe):
    save_recipe(tmp_path / "r.json", recipe)
    assert read_recipe(tmp_path / "r.json") == recipe
    assert read_stages(tmp_path / "r.json") == [Stage("1", recipe)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a recipe"),
        ("[1]", "not a recipe"),
        ('{"lambda": 1}', "unknown recipe fields: lambda"),
        ('{"steps": 0}', r"steps must be in \[1, 2147483647\]; got 0"),
        ('{"steps": 3000000000}', "steps must be in .*; got 3000000000"),
        ('{"seed": 9223372036854775808}', "seed must be in .*; got 9223372036854775808"),
    ],
)
def test_a_json_file_that_is_no_recipe_is_refused(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "r.json")


# recipe.json of runs that version 0.1.0 wrote
FORMER_TRAIN = {
    **{"model": "mbt2018-mean", "n": 64, "m": 192, "steps": 10000, "batch": 4, "crop": 192},
    **{"learning_rate": 0.0006, "final_rate": 0.1, "warmup": 200, "begin": 5, "ema": 0.99},
    **{"optimizer": "muon", "transforms": False, "offsets": True, "z_step": False, "seed": 41},
    **{"log_scale": True, "precision": "float32", "init": "model fb8e3db8", "start": "pyramid"},
    **{"balance": 1.5, "qstep_low": 1.0, "qstep_high": 16.0},
}
FORMER_POSTTRAIN = {
    **{"steps": 2400, "qsteps": [1.5, 16], "lambdas": [], "between": True, "learn_qsteps": False},
    **{"aggregator": "random", "scale": "none", "floor": 0.25, "gram": "exact", "seed": 3},
    **{"latent_scale": 66.7, "hyper_scale": 8.0, "init": "run b, step 3800"},
}


def test_recipes_of_version_0_1_are_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(FORMER_TRAIN))
    recipe = read_recipe(tmp_path / "a.json")
    assert recipe == SingleRateRecipe(
        steps=10000,
        batch=4,
        crop=192,
        learning_rate=0.0006,
        final_lr_fraction=0.1,
        warmup=200,
        ema_decay=0.99,
        train_transforms=False,
        train_z_qstep=False,
        seed=41,
        warm_start="model fb8e3db8",
        initialisation="klt",
        balance=1.5,
        qstep_low=1.0,
        unnatural_share=0.0,
    )
    (tmp_path / "b.json").write_text(json.dumps(FORMER_POSTTRAIN))
    assert read_recipe(tmp_path / "b.json") == MultiRateRecipe(
        steps=2400,
        qsteps=(1.5, 16),
        draw_qsteps=True,
        weighting="random",
        objective_scale="none",
        unnatural_share=0.0,
        weight_floor=0.25,
        seed=3,
        latent_scale=66.7,
        hyper_scale=8.0,
        warm_start="run b, step 3800",
    )


SIZES_OF_A_STAGE = """
[[stage]]
name = "a"
command = "train"
model = "jvrc2026"
m = 8
[stage.sizes]
C = 6
"""


def test_sizes_of_a_toml_recipe_are_a_table(tmp_path):
    (tmp_path / "r.toml").write_text(SIZES_OF_A_STAGE, encoding="utf-8")
    (stage,) = read_stages(tmp_path / "r.toml")
    expected = config_of("jvrc2026", N=64, M=8, C=6, latent_scale=1 / 0.06, hyper_scale=8.0)
    assert stage.recipe.config() == expected


def test_the_default_size_of_jvrc2026_is_that_of_its_recipe():
    (stage,) = read_stages(files.recipe_path("jvrc2026"))
    assert replace(stage.recipe, sizes={}).config() == stage.recipe.config()
    scales = {"latent_scale": 1 / 0.06, "hyper_scale": 8.0}
    assert stage.recipe.config() == config_of("jvrc2026", **scales)


@pytest.mark.parametrize("kind", [SingleRateRecipe, MultiRateRecipe])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sizes": {"D": 3}}, "sizes of mbt2018-mean must be none; got D"),
        (
            {"model": "jvrc2026", "sizes": {"C": 6, "D": 3, "N": 4}},
            "sizes of jvrc2026 must be of .*C, K, H, E, g_a_blocks, .*; got D, N",
        ),
        ({"model": "jvrc2026", "sizes": {"C": 0}}, "C must be an integer in 1"),
        ({"model": "jvrc2026", "m": 6}, "M must be a multiple of 4; got 6"),
        ({"model": "jvrc2026", "sizes": {"C": 6.5}}, "sizes must be whole numbers by name"),
        ({"model": "jvrc2026", "sizes": ["C"]}, "sizes must be whole numbers by name"),
        ({"model": "jvrc2026", "log_scale": False}, "log_scale must be true for jvrc2026"),
        ({"weight_decay": -0.1}, "weight_decay must be in"),
    ],
)
def test_wrong_sizes_are_named_with_their_rule(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_post_training_takes_its_sizes_from_the_model(tmp_path, architecture):
    config = small_config(architecture, latent_scale=3.0, hyper_scale=2.0)
    recipe = MultiRateRecipe().of_model(config, "a test")
    assert recipe.config() == config
    save_recipe(tmp_path / "r.json", recipe)
    assert read_recipe(tmp_path / "r.json") == recipe


def test_headers_of_shipped_weights_state_a_recipe_that_is_read_today():
    from jvrc.frozen import zoo

    for name in zoo.models():
        values = files.with_present_names(zoo.describe(name)["recipe"])
        done = values.pop("steps_done")
        recipe = SingleRateRecipe(**values)
        assert (recipe.model, recipe.steps, recipe.initialisation) == (name, done, "klt")


def test_names_of_today_are_left_as_they_are():
    for recipe in (SingleRateRecipe(), MultiRateRecipe()):
        values = dataclasses.asdict(recipe)
        assert files.with_present_names(values) == values


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"crop": 100},
        {"learning_rate": -1.0},
        {"optimizer": "sgd"},
        {"initialisation": "warm"},
        {"qstep_low": 0.0},
        {"qstep_low": 9.0, "qstep_high": 4.0},
        {"ema_decay": 1.0},
        {"model": "mbt2019"},
        {"n": 0},
        {"qstep_low": 0.25},
        {"qstep_high": 64.0},
        {"seed": -1},
        {"minutes": -1.0},
        {"precision": "float16"},
        {"steps": "100"},
        {"steps": 1e4},
        {"batch": True},
        {"learning_rate": float("nan")},
    ],
)
def test_a_wrong_field_is_named_with_its_rule(wrong):
    with pytest.raises(ValueError, match="must be"):
        SingleRateRecipe(**wrong)
