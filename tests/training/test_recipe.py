import pytest

from jvrc.training.recipe import Recipe, load_recipe


def test_saved_recipe_is_read_back(tmp_path):
    recipe = Recipe(n=8, m=12, steps=7, seed=3)
    recipe.save(tmp_path / "r.json")
    assert load_recipe(tmp_path / "r.json") == recipe


def test_lines_with_a_hash_are_prose_and_missing_fields_take_defaults(tmp_path):
    (tmp_path / "r.json").write_text('# jvrc train …\n{"n": 16}\n', encoding="utf-8")
    assert load_recipe(tmp_path / "r.json") == Recipe(n=16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a recipe"),
        ("[1]", "not a recipe"),
        ('{"lambda": 1}', "unknown recipe fields: lambda"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(tmp_path / "r.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"crop": 100},
        {"learning_rate": -1.0},
        {"optimizer": "sgd"},
        {"start": "warm"},
        {"qstep_low": 0.0},
        {"qstep_low": 9.0, "qstep_high": 4.0},
        {"ema": 1.0},
        {"model": "mbt2019"},
        {"n": 0},
        {"qstep_low": 0.25},
        {"qstep_high": 64.0},
        {"seed": -1},
        {"begin": -1},
        {"steps": 10, "begin": 10},
        {"precision": "float16"},
        {"steps": "100"},
        {"steps": 1e4},
        {"batch": True},
    ],
)
def test_a_wrong_field_is_named_with_its_rule(wrong):
    with pytest.raises(ValueError, match="must be"):
        Recipe(**wrong)
