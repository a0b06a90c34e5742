"""The recipe of the worlds: a small run from start to card."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tectum import hub
from tectum.data.worlds import picture
from tectum.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """The recipe's module, its options, and the folder of a run."""
    threads = torch.get_num_threads()
    module, out = load_recipe(RECIPES / "world_clip.py"), tmp_path_factory.mktemp("run")
    recipe = module.Recipe(scenes=48, batch=12, size=24, width=16, threads=1)
    module.run(recipe, out)
    torch.set_num_threads(threads)
    return module, recipe, out


def test_batches_depend_on_their_step_alone_and_never_repeat_a_scene(made) -> None:
    module, recipe, _ = made
    task, again = module.WorldClip(recipe), module.WorldClip(recipe)
    forwards = [task.batch(step) for step in range(4)]
    for step in (3, 0, 2, 1):
        for a, b in zip(forwards[step], again.batch(step), strict=True):
            assert torch.equal(a, b)
    keys = [scene.key for step in range(4) for scene in task.scenes(step)]
    assert len(set(keys)) == 48
    assert not any(key.split("-")[1] in ("0", "1") for key in keys)  # the series of the tokenizer and of the tests


def test_the_run_leaves_models_that_open(made) -> None:
    module, recipe, out = made
    opened, both = module.open_run(out)
    assert opened == recipe
    image, text, true = module.vectors(both.space, recipe.world("unseen"), 5)
    again, words, _ = module.vectors(hub.load(out / "model"), recipe.world("unseen"), 5)
    # The folder holds half precision.
    torch.testing.assert_close(torch.cat((image, text)), torch.cat((again, words)), atol=5e-3, rtol=0)
    assert all(i in some for i, some in enumerate(true))


def test_the_unseen_are_not_trained_on(made) -> None:
    module, recipe, _ = made
    held = set(recipe.world("unseen").combinations)
    task = module.WorldClip(recipe)
    seen = {(thing.colour, thing.shape) for step in range(20) for scene in task.scenes(step) for thing in scene.things}
    assert held and not held & seen
    small = replace(recipe, words=5).world("unseen")
    assert small.combinations and len(small.colours) == len(small.shapes) == 5


def test_what_is_known_to_fit_is_what_holds(made) -> None:
    """By asking of every scene and every claim, not only of those of the same things."""
    module, recipe, _ = made
    few = replace(recipe.world("all"), colours=("red", "blue"), shapes=("cube", "cone"), every=0)
    scenes = [module.make_scene(few, 0, index) for index in range(40)]
    claims = [module.tell(scene)[0] for scene in scenes]
    every = torch.tensor([[module.holds(claim, scene) for claim in claims] for scene in scenes])
    assert torch.equal(module.truths(scenes, claims), every)
    assert every.diagonal().all() and every.sum() > 60


def test_the_card_measures_and_draws(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, out = made
    monkeypatch.syspath_prepend(str(RECIPES))
    card, figure = load_module("world_clip_card"), load_module("world_clip_picture")
    monkeypatch.setattr(card, "TEST_SCENES", 40)
    results = card.measure(out, [out], [], 4)
    told = card.tables(results)
    for words in ("swap-attribute", "matcher unseen", "centred after", "foreign: gain"):
        assert words in told
    shares = [figure[0] for figures in results.composition.values() for figure in figures.values()]
    assert all(0 <= share <= 1 for share in shares) and set(results.composition) >= {
        "towers seen",
        "matcher unseen",
        "blind seen",
    }
    figure.save_figure(results, tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000


def load_module(name: str):
    import importlib

    sys.modules.pop("world_clip", None)
    return importlib.import_module(name)


def test_both_models_see_the_same_pixels(made) -> None:
    module, recipe, out = made
    _, both = module.open_run(out)
    scene = module.make_scene(recipe.world(), 1, 0)
    by_space = both.space.prepare("image", picture(scene))
    assert torch.equal(module.as_pixels([picture(scene)])[0], by_space)
    assert np.array_equal(both.matcher.config.image.pixels(picture(scene)), by_space)
