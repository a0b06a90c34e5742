"""Space: what must hold for any towers and any weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_space import TEXTS, tiny_space

from tectum.errors import ConfigError, MediaError
from tectum.models.encoders import GridConfig, TextConfig, TextEncoder
from tectum.models.space import MAX_SCALE, Space, SpaceConfig
from tectum.models.towers import TextTowerConfig

RNG = np.random.default_rng(0)
PICTURES = [Image.fromarray(RNG.integers(0, 255, (20 + 7 * i, 40, 3), dtype=np.uint8)) for i in range(5)]
SOUNDS = [(RNG.normal(size=n).astype(np.float32) * 0.1, 16_000) for n in (4_000, 8_000, 30_000, 90_000)]
ITEMS = {"image": PICTURES, "text": TEXTS, "audio": SOUNDS}


@pytest.fixture(scope="module", params=[False, True], ids=["convolutions", "patches"])
def space(request: pytest.FixtureRequest) -> Space:
    return tiny_space(patches=request.param)


def test_vectors_are_unit_and_finite_for_any_subset_of_modalities(space: Space) -> None:
    for subset in (("image",), ("text", "audio"), ("audio", "image", "text")):
        vectors = space.embed(**{name: ITEMS[name] for name in subset})
        assert set(vectors) == set(subset)
        for name in subset:
            assert vectors[name].shape == (len(ITEMS[name]), space.dim)
            torch.testing.assert_close(vectors[name].norm(dim=1), torch.ones(len(ITEMS[name])))


@pytest.mark.parametrize("modality", ITEMS)
def test_a_vector_depends_on_its_item_alone(space: Space, modality: str) -> None:
    together = space.embed(**{modality: ITEMS[modality]})[modality]
    alone = torch.cat([space.embed(**{modality: [item]})[modality] for item in ITEMS[modality]])
    by_two = space.embed(batch_size=2, **{modality: ITEMS[modality][::-1]})[modality].flip(0)
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(together, by_two, rtol=0, atol=2e-6)


def test_many_texts_of_mixed_length_equal_each_alone() -> None:
    """Texts are grouped by length inside the tower."""
    space = tiny_space()
    texts = [" ".join(TEXTS[(i + j) % 5] for j in range(1 + i % 3))[: 3 + i % 40] for i in range(200)]
    together = space.embed(text=texts, batch_size=200)["text"]
    alone = torch.cat([space.embed(text=[text])["text"] for text in texts])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)


def test_samples_with_missing_modalities_keep_their_rows(space: Space) -> None:
    samples = [{"image": PICTURES[0]}, {"text": TEXTS[1], "audio": SOUNDS[1]}, {}, {"image": PICTURES[3], "text": TEXTS[0]}]
    result = space.embed_samples(samples)
    assert {name: rows.tolist() for name, (rows, _) in result.items()} == {"image": [0, 3], "text": [1, 3], "audio": [1]}
    torch.testing.assert_close(result["image"][1], space.embed(image=[PICTURES[0], PICTURES[3]])["image"])


def test_a_recording_is_heard_at_any_level_and_a_file_like_an_array(space: Space, tmp_path) -> None:
    from tectum.media.audio import write_sound

    samples, rate = SOUNDS[2]
    loud, quiet = space.embed(audio=[(samples, rate), (samples * 0.05, rate)])["audio"]
    torch.testing.assert_close(loud, quiet, rtol=0, atol=1e-4)
    write_sound(tmp_path / "a.flac", samples, rate)
    from_file = space.embed(audio=[tmp_path / "a.flac"])["audio"][0]
    torch.testing.assert_close(from_file, loud, rtol=0, atol=2e-3)  # 16-bit rounding


def test_silent_windows_do_not_dilute_a_recording(space: Space) -> None:
    bark = SOUNDS[1][0]
    with_pause = np.concatenate([bark, np.zeros(8_000, np.float32)])
    a, b = space.embed(audio=[(bark, 16_000), (with_pause, 16_000)])["audio"]
    torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


def test_classification_is_the_softmax_of_the_scaled_cosines_with_the_mean_prompt(space: Space) -> None:
    templates = ["{}", "a photo of a {}"]
    probabilities = space.classify(["dog", "apple"], image=PICTURES, templates=templates)
    prompts = space.embed(text=["dog", "a photo of a dog", "apple", "a photo of a apple"])["text"].view(2, 2, -1).mean(1)
    cosines = torch.nn.functional.cosine_similarity(space.embed(image=PICTURES)["image"][:, None], prompts[None], dim=-1)
    torch.testing.assert_close(probabilities, (space.scale("image", "text") * cosines).softmax(-1).detach(), atol=1e-5, rtol=1e-4)


def test_the_temperature_stays_outside_the_vectors_and_below_100(space: Space) -> None:
    before = space.embed(text=TEXTS)["text"]
    with torch.no_grad():
        space.log_scale["image-text"].fill_(9.0)
    torch.testing.assert_close(space.embed(text=TEXTS)["text"], before)
    assert space.scale("text", "image") == MAX_SCALE


def test_what_cannot_be_embedded_is_told_in_a_sentence(space: Space) -> None:
    with pytest.raises(ConfigError, match=r"write text=\[…\]"):
        space.embed(text="a dog")
    with pytest.raises(ConfigError, match="no video tower: it knows image, text, audio"):
        space.embed(video=[1])
    with pytest.raises(MediaError, match="a text must be a str, not int"):
        space.embed(text=[3])
    with pytest.raises(ConfigError, match="batch_size is at least 1"):
        space.embed(text=["a"], batch_size=0)
    with pytest.raises(ConfigError, match="exactly one modality"):
        space.classify(["a"], image=PICTURES, audio=SOUNDS)
    assert space.embed(image=[])["image"].shape == (0, space.dim)


def test_contradictory_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="either convolution widths or a patch size"):
        GridConfig(channels=3)
    with pytest.raises(ConfigError, match="at least one tower"):
        SpaceConfig(name="empty", dim=4, towers={})
    text = TextTowerConfig(text=TextConfig(vocab_size=9, context=4))
    with pytest.raises(ConfigError, match="needs a tokenizer of 9 tokens and got no tokenizer"):
        Space(SpaceConfig(name="text", dim=4, towers={"text": text}))


def test_padding_changes_nothing_in_the_text_encoder() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextConfig(vocab_size=20, context=10, width=8, blocks=2, heads=2), 6, pad=0).double().eval()
    ids = torch.randint(1, 20, (3, 4))
    torch.testing.assert_close(encoder(ids), encoder(torch.nn.functional.pad(ids, (0, 6))))


def test_every_parameter_gets_a_gradient() -> None:
    space = tiny_space().train()
    batches = {name: space.tower(name).collate([space.prepare(name, item) for item in items]) for name, items in ITEMS.items()}
    vectors = space(batches)
    loss = sum((space.scale(a, b) * (vectors[a][:4] @ vectors[b][:4].T)).logsumexp(1).sum() for a in ITEMS for b in ITEMS)
    loss.backward()
    missing = [name for name, parameter in space.named_parameters() if parameter.grad is None]
    assert not missing


def test_a_frozen_tower_stays_in_evaluation_mode_and_gives_no_gradient() -> None:
    space = tiny_space()
    before = {name: value.clone() for name, value in space.tower("image").state_dict().items()}
    outer = torch.nn.ModuleList([space.freeze("image")]).train()
    assert space.training and space.tower("text").training and not space.tower("image").training
    assert not any(part.training for part in space.tower("image").modules())
    batches = {name: space.tower(name).collate([space.prepare(name, item) for item in ITEMS[name]]) for name in ("image", "text")}
    for _ in range(2):  # In training mode running statistics would move.
        vectors = space(batches)
    assert not vectors["image"].requires_grad and vectors["text"].requires_grad
    assert all(torch.equal(value, before[name]) for name, value in space.tower("image").state_dict().items())
    assert {name.split(".")[2] for name, p in outer.named_parameters() if not p.requires_grad} == {"image"}
    with pytest.raises(ConfigError, match="no video tower"):
        space.freeze("video")
