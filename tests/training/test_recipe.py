from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipe_file import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.toml"))


def write(folder: Path, text: str) -> Path:
    """A recipe file of this text."""
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """Unknown keys, bad values and missing ones come in one message."""
    path = write(
        tmp_path,
        'name = "x"\nrun_dir = "r"\ncolour = 1\n[sft]\nepochs = -1\nlearning = 3\n[judge]\nruns = 0\n',
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, {})
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for part in ("colour: unknown key", "sft.learning: unknown key", "sft.epochs", "judge.runs", "student"):
        assert part in problems


def test_strings_take_environment_variables(tmp_path: Path) -> None:
    """A variable wins over its default."""
    text = 'name = "x"\nrun_dir = "${RUNS:-runs}/x"\nstudent = "${STUDENT:-small}"\n'
    recipe = load_recipe(write(tmp_path, text), {"RUNS": "/elsewhere"})
    assert recipe.run_dir == Path("/elsewhere/x")
    assert recipe.student == "small"


@pytest.mark.parametrize("name", ["teacher", "judge_endpoint", "evaluate.endpoint", "evaluate.guard"])
def test_a_grader_is_no_endpoint_that_it_grades_beside(tmp_path: Path, name: str) -> None:
    """One model at one address: the message names both tables; another model there is another grader."""
    text = (
        'name = "x"\nrun_dir = "r"\nstudent = "s"\n'
        f'[{name}]\nurl = "http://127.0.0.1:1/v1/"\nmodel = "m"\n'
        '[evaluate.grader]\nurl = "http://127.0.0.1:1/v1"\nmodel = "{}"\n'
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text.format("m")), {})
    [problem] = caught.value.problems
    assert problem.startswith(f"recipe: evaluate.grader is {name} (m at http://127.0.0.1:1/v1)")
    grader = load_recipe(write(tmp_path, text.format("n")), {}).evaluate.grader
    assert grader is not None
    assert grader.model == "n"


def test_a_variable_without_value_is_named(tmp_path: Path) -> None:
    """A variable that is not set and has no default is a problem at its key."""
    text = 'name = "x"\nrun_dir = "r"\nstudent = "${NO_SUCH}"\n'
    with pytest.raises(RecipeError, match=r"student: environment variable NO_SUCH is not set"):
        load_recipe(write(tmp_path, text), {})


@pytest.mark.parametrize("text", ["name = ", "\xff"])
def test_what_is_not_toml_is_said_so(tmp_path: Path, text: str) -> None:
    """A file that cannot be parsed is one clear error."""
    path = tmp_path / "recipe.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match="is not TOML"):
        load_recipe(path, {})


def test_a_missing_recipe_is_said_so(tmp_path: Path) -> None:
    """No file, no traceback."""
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml", {})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_this_project_load(path: Path) -> None:
    """Every recipe here is valid without any environment variable."""
    assert load_recipe(path, {}).name == path.stem
