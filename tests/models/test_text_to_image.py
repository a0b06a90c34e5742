"""Text to pictures on a small random model: a picture is a function of its text, seed and number; edits keep what they should."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.unipc import UniPC
from tectum.errors import ConfigError
from tectum.media.text import train_bpe
from tectum.models.latent_diffusion import as_bytes
from tectum.models.sampling import Edit, Sampling
from tectum.models.text_to_image import TextToImage, tiny

TEXTS = ["a red apple", "a green pear", "two cats in a hat"]


@pytest.fixture(scope="module")
def model() -> TextToImage:
    torch.manual_seed(0)
    tokenizer = train_bpe(TEXTS * 2, vocab_size=300, context=8)
    made = TextToImage(tiny(tokenizer.vocab_size), tokenizer).eval()
    for parameter in made.parameters():  # a fresh denoiser says zero, whatever it is told
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def end(model: TextToImage, texts: list[str], sampling: Sampling, numbers: list[int] | None = None) -> Tensor:
    with torch.no_grad():
        *_, state = model.trajectory(texts, sampling, numbers=numbers)
    return state.x


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_picture_is_the_same_alone_and_among_others(model: TextToImage, guidance: float) -> None:
    sampling = Sampling(steps=4, guidance=guidance, seed=3)
    together = end(model, TEXTS, sampling)
    for number, text in enumerate(TEXTS):
        torch.testing.assert_close(end(model, [text], sampling, [number])[0], together[number], rtol=1e-3, atol=1e-3)


def test_text_seed_number_and_negative_make_a_difference(model: TextToImage) -> None:
    sampling = Sampling(steps=3)
    first = end(model, TEXTS[:1], sampling)
    others = [
        end(model, TEXTS[1:2], sampling),
        end(model, TEXTS[:1], replace(sampling, seed=1)),
        end(model, TEXTS[:1], sampling, [1]),
        end(model, TEXTS[:1], replace(sampling, negative="two cats")),
    ]
    assert all((other - first).abs().max() > 1e-3 for other in others)
    assert torch.equal(end(model, TEXTS[:1], sampling), first)


def test_without_guidance_the_negative_is_not_asked(model: TextToImage) -> None:
    plain = Sampling(steps=3, guidance=1.0)
    assert torch.equal(end(model, TEXTS, plain), end(model, TEXTS, replace(plain, negative="two cats")))
    # w = 1 leaves only what the text says, by either way.
    near = end(model, TEXTS, replace(plain, guidance=1.0 + 1e-6))
    torch.testing.assert_close(near, end(model, TEXTS, plain), rtol=1e-3, atol=1e-3)


def test_solvers_meet_where_steps_are_short(model: TextToImage) -> None:
    ends = [
        end(model, TEXTS, Sampling(steps=steps, guidance=2.0, solver=solver))
        for steps, solver in ((400, Ancestral()), (100, Multistep(2)), (100, UniPC()))
    ]
    spread = (ends[1] - ends[2]).abs().mean()
    assert spread < 0.02 * ends[2].std() and (ends[0] - ends[2]).abs().mean() < 0.1 * ends[2].std()


def test_an_edit_of_little_strength_stays_near_and_one_of_full_strength_does_not(model: TextToImage) -> None:
    picture = torch.rand(3, 16, 16) * 2 - 1
    latents = model.autoencoder.latents(picture[None]).detach()
    away = []
    for strength in (0.05, 1.0):
        with torch.no_grad():
            *_, state = model.trajectory(
                TEXTS[:1], Sampling(steps=20, guidance=1.0), edit=Edit(picture=picture, strength=strength)
            )
        away.append((state.x - latents).square().mean().sqrt())
    assert away[0] < 0.5 * away[1]


def test_outside_the_hole_every_pixel_stays(model: TextToImage) -> None:
    picture = torch.rand(3, 16, 16) * 2 - 1
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[3:9, 5:12] = True
    made = model.generate(TEXTS, Sampling(steps=4), edit=Edit(picture=picture, strength=1.0, hole=hole))
    assert torch.equal(made[:, :, ~hole], as_bytes(picture)[:, ~hole].expand(3, -1, -1))
    assert (made[:, :, hole].float() - as_bytes(picture)[:, hole].float()).abs().mean() > 1


def test_previews_are_on_the_way(model: TextToImage) -> None:
    with torch.no_grad():
        states = list(model.trajectory(TEXTS, Sampling(steps=5)))
    assert len(states) == 6 and all(state.past for state in states[1:])
    assert model.pictures(states[3].past[0].x0).shape == (3, 3, 16, 16)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda config: replace(config, size=18), "whole number of patches"),
        (lambda config: replace(config, text=replace(config.text, width=24)), "make them the same"),
        (lambda config: replace(config, autoencoder=replace(config.autoencoder, latents=3)), "different models"),
        (lambda config: replace(config, denoiser=replace(config.denoiser, context=24)), "different models"),
    ],
)
def test_parts_that_do_not_fit_are_refused(model: TextToImage, change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=sentence):
        TextToImage(change(tiny(model.prompts.tokenizer.vocab_size)), model.prompts.tokenizer)


def test_bad_requests(model: TextToImage) -> None:
    with pytest.raises(ConfigError, match="resize"):
        model.generate(TEXTS, Sampling(steps=1), edit=Edit(picture=torch.zeros(3, 20, 16)))
    with pytest.raises(ConfigError, match="one each"):
        model.generate(TEXTS, Sampling(steps=1), numbers=[1])
    with pytest.raises(ConfigError, match="at least one"):
        Sampling(steps=0)
    with pytest.raises(ConfigError, match="strength"):
        Edit(picture=torch.zeros(3, 16, 16), strength=0)
    with pytest.raises(ConfigError, match="mask"):
        Edit(picture=torch.zeros(3, 16, 16), hole=torch.zeros(3, 3, dtype=torch.bool))
