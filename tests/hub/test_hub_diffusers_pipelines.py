"""Whole folders of diffusers make the pictures that its own pipelines make of them, from the same noise."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tectum.diffusion.noise import Independent
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.unipc import UniPC
from tectum.errors import CheckpointError, ConfigError
from tectum.hub.diffusers.described import describe, network_change, scheduler_changes
from tectum.hub.diffusers.pipelines import load, load_text, pipeline_scheduler
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.sampling import Sampling, Wanted

os.environ.setdefault("HF_HUB_OFFLINE", "1")
diffusers = pytest.importorskip("diffusers")
from small_pipelines import (  # noqa: E402
    NUMBERS,
    SD,
    START,
    TEXTS,
    assert_near,
    changed,
    copied,
    stable,
    text_encoder,
    theirs,
    xl,
)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")


def ours(folder: Path, wanted: Wanted, sampling: Sampling, *, compat: bool = True) -> Tensor:
    model = load(folder, compat=compat)
    *_, end = model.trajectory(wanted, replace(sampling, seed=1), numbers=NUMBERS)
    return (model.pictures(end.x) / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize(
    ("sampling", "options"),
    [
        (Sampling(steps=3, guidance=7.5), {"guidance_scale": 7.5}),
        (Sampling(steps=4, guidance=3.0, negative="cab", skip=1, rescale=0.7),
         {"guidance_scale": 3.0, "negative_prompt": ["cab"] * 2, "clip_skip": 1, "guidance_rescale": 0.7}),
        (Sampling(steps=2, guidance=0.5, size=(8, 24)), {"guidance_scale": 0.5, "height": 8, "width": 24}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["sd", "xl"])
@torch.no_grad()
def test_pictures_of_texts_are_theirs(name: str, sampling: Sampling, options: dict[str, Any], folders: dict[str, Path]) -> None:
    start = Independent(1, torch.tensor(NUMBERS)).start((4, *((4, 12) if sampling.size else (8, 8))))
    expected = theirs(folders[name], prompt=TEXTS, num_inference_steps=sampling.steps, latents=start, **options)
    assert_near(ours(folders[name], TEXTS, sampling), expected)


@torch.no_grad()
def test_an_empty_text_is_read_where_the_index_says_so(tmp_path: Path) -> None:
    xl(force_zeros_for_empty_prompt=False).save_pretrained(tmp_path)
    expected = theirs(tmp_path, prompt=TEXTS, num_inference_steps=2, latents=START, guidance_scale=4.0)
    assert_near(ours(tmp_path, TEXTS, Sampling(steps=2, guidance=4.0)), expected)


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@torch.no_grad()
def test_pictures_of_classes_are_theirs(guidance: float, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"class_labels": [5, 998], "guidance_scale": guidance, "num_inference_steps": 3}
    expected = theirs(folders["dit"], monkeypatch, **options)
    sampling = Sampling(steps=3, guidance=guidance)
    assert_near(ours(folders["dit"], [5, 998], sampling), expected)
    assert (ours(folders["dit"], [5, 998], sampling, compat=False) - expected).abs().max() > 1e-3, "times are embedded otherwise"


@pytest.mark.parametrize(("name", "steps"), [("ddpm", 7), ("ddim", 6)])
@torch.no_grad()
def test_pictures_of_nothing_are_theirs(name: str, steps: int, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = theirs(folders[name], monkeypatch, batch_size=2, num_inference_steps=steps)
    assert_near(ours(folders[name], 2, Sampling(steps=steps)), expected)


@torch.no_grad()
def test_schedulers_are_repaired_as_their_pipeline_does(folders: dict[str, Path], tmp_path: Path) -> None:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folders["sd"])
    pipeline.save_pretrained(tmp_path)
    old = {"_class_name": "DDIMScheduler", **SD}  # which clips latents to ±1 and begins at time 0
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(old))
    index = json.loads((tmp_path / "model_index.json").read_text()) | {"scheduler": ["diffusers", "DDIMScheduler"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert pipeline_scheduler(tmp_path).options["clip_sample"] is False
    expected = theirs(tmp_path, prompt=TEXTS, num_inference_steps=3, latents=START, guidance_scale=2.0)
    assert_near(ours(tmp_path, TEXTS, Sampling(steps=3, guidance=2.0)), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("EulerDiscreteScheduler", {}),
        ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
        ("HeunDiscreteScheduler", {}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
        ("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    ],
)
@torch.no_grad()
def test_any_scheduler_may_be_in_a_folder(
    name: str, options: dict[str, Any], folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(folders["sd"], tmp_path / "sd")
    getattr(diffusers, name)(**SD, **options).save_pretrained(folder / "scheduler")
    changed(folder / "model_index.json", scheduler=["diffusers", name])
    expected = theirs(folder, monkeypatch, prompt=TEXTS, num_inference_steps=4, guidance_scale=3.0)
    assert_near(ours(folder, TEXTS, Sampling(steps=4, guidance=3.0)), expected)


@torch.no_grad()
def test_a_folder_of_half_precision_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folders["xl"], torch_dtype=torch.float16)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    expected = load(folders["xl"]).half().float().state_dict()
    found = load(tmp_path).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    parts = [{name: part.parameters for name, part in describe(folder).parts.items()} for folder in (tmp_path, folders["xl"])]
    assert parts[0] == parts[1]


@torch.no_grad()
def test_old_folders_are_read_as_they_are_there(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["sd"], tmp_path / "sd")
    changed(folder / "unet" / "config.json", _diffusers_version="0.6.0")
    unet = diffusers.DiffusionPipeline.from_pretrained(folder).unet
    assert load(folder).size == (unet.config.sample_size,) * 2 == (64, 64)
    weights = load_file(folder / "text_encoder" / "model.safetensors")
    old = {key if key.startswith("text_model.") else f"text_model.{key}": tensor for key, tensor in weights.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(old, folder / "text_encoder" / "model.safetensors")
    one, other = (load_text(place / "text_encoder")[0].state_dict() for place in (folder, folders["sd"]))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_filters_of_pictures_need_not_be_there(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["sd"], tmp_path / "sd")
    changed(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert load(folder).size == (8, 8)
    assert describe(folder).parts["safety_checker"].kind == "none"


@torch.no_grad()
def test_a_distilled_network_is_told_its_guidance(tmp_path: Path) -> None:
    stable(time_cond_proj_dim=10).save_pretrained(tmp_path)
    expected = theirs(tmp_path, prompt=TEXTS, num_inference_steps=2, latents=START, guidance_scale=6.0)
    assert_near(ours(tmp_path, TEXTS, Sampling(steps=2, guidance=6.0)), expected)


def test_a_picture_is_the_same_alone_and_in_a_batch(folders: dict[str, Path]) -> None:
    for name, wanted in (("sd", TEXTS), ("dit", [5, 7])):
        model, sampling = load(folders[name]), Sampling(steps=2, seed=4, solver=UniPC())
        both = model.generate(wanted, sampling, numbers=[9, 2])
        alone = model.generate(wanted[1:], sampling, numbers=[2])
        assert both.dtype == torch.uint8 and both.shape == (2, 3, 16, 16)
        assert (both[1:].int() - alone.int()).abs().max() <= 1
        other = model.generate(wanted[1:], replace(sampling, seed=5), numbers=[2])
        assert not torch.equal(alone, other)
    model = load(folders["dit"])  # whose own is DDIM
    assert torch.equal(model.generate([5], Sampling(steps=3)), model.generate([5], Sampling(steps=3, solver=Ancestral())))


@pytest.mark.parametrize("name", ["sd", "xl", "dit", "ddpm"])
def test_packed_and_in_bfloat16_pictures_are_nearly_the_same(name: str, folders: dict[str, Path]) -> None:
    wanted: Wanted = {"dit": [5, 7], "ddpm": 2}.get(name, TEXTS)  # type: ignore[assignment]
    sampling = Sampling(steps=3, guidance=2.0)
    exact = load(folders[name]).generate(wanted, sampling).int()
    half = load(folders[name]).to(torch.bfloat16).generate(wanted, sampling).int()
    model = load(folders[name])
    model.pack(wanted, sampling)
    assert (model.generate(wanted, sampling).int() - exact).abs().max() <= 1
    assert half.shape == exact.shape and (half - exact).abs().float().mean() < 8


def test_skipping_blocks_is_for_both_texts_unless_it_is_theirs(folders: dict[str, Path]) -> None:
    sampling = Sampling(skip=1, negative="cab")
    for compat, same in ((False, True), (True, False)):
        model = load(folders["sd"], compat=compat)
        told = model.conditions(["cab"], sampling)
        without = model.without(told, sampling)
        assert without is not None
        assert torch.equal(told["tokens"], without["tokens"]) is same


@pytest.mark.parametrize("end", [2, 514])
@torch.no_grad()
def test_text_encoders_are_theirs(end: int, tmp_path: Path) -> None:
    ids = torch.tensor([[513, 97, 514, 0, 0], [513, 514, 514, 514, 514]])
    for kind in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        model = text_encoder(kind, 16, 3, 1, eos_token_id=end)
        model.save_pretrained(tmp_path / kind)
        expected = model(ids, output_hidden_states=True)
        encoder, _ = load_text(tmp_path / kind)
        near = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(encoder.states(ids), expected.last_hidden_state, **near)
        for skip in range(4):
            torch.testing.assert_close(encoder.states(ids, skip=skip, normed=False), expected.hidden_states[3 - skip], **near)
        pooled = expected.pooler_output if kind == "CLIPTextModel" else expected.text_embeds
        torch.testing.assert_close(encoder(ids), pooled, **near)
    with pytest.raises(ConfigError, match="4 blocks of a text Transformer of 3 cannot be skipped"):
        encoder.states(ids, skip=4)


def test_what_is_missing_or_foreign_is_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    for i, (name, change, message) in enumerate((
        ("sd", {"_class_name": "FluxPipeline"}, "is of a FluxPipeline: read here are StableDiffusionPipeline, "),
        ("sd", {"tokenizer": [None, None]}, "has no tokenizer, and a StableDiffusionPipeline needs one"),
        ("sd", {"text_encoder": ["transformers", "T5EncoderModel"]}, "has a T5EncoderModel as its text_encoder: only"),
        ("xl", {"unet": ["diffusers", "UNetMotionModel"]}, "has a UNetMotionModel as its unet, which is not read here"),
        ("sd", {"_class_name": "DDPMPipeline"}, "text encoders go with a network that is told texts"),
        ("xl", {"_class_name": "StableDiffusionPipeline"}, "is told other things than that of a StableDiffusionPipeline"),
        ("dit", {"vae": ["diffusers", "AutoencoderTiny"]}, "has a AutoencoderTiny as its vae"),
    )):  # fmt: skip
        folder = copied(folders[name], tmp_path / str(i))
        changed(folder / "model_index.json", **change)
        with pytest.raises(CheckpointError, match=message) as caught:
            load(folder)
        assert "\n" not in str(caught.value)
    folder = copied(folders["sd"], tmp_path / "text")
    changed(folder / "text_encoder" / "config.json", architectures=["BertModel"])
    with pytest.raises(CheckpointError, match="the text encoders read here are CLIPTextModel and"):
        load(folder)
    folder = copied(folders["sd"], tmp_path / "foreign")
    text_encoder("CLIPTextModel", 12, 1, 0).save_pretrained(folder / "text_encoder")
    with pytest.raises(CheckpointError, match="told tokens of 16 and the text encoders give 12"):
        load(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "VQDiffusionScheduler"}')
    with pytest.raises(ConfigError, match="no solver for VQDiffusionScheduler"):
        load(folder)


def test_what_is_asked_for_must_be_what_the_model_makes(folders: dict[str, Path]) -> None:
    models: dict[str, LatentDiffusion] = {name: load(folders[name]) for name in ("sd", "dit", "ddpm")}
    for name, wanted, message in (
        ("sd", "ab", "pictures of texts: give a list"), ("sd", [1], "pictures of texts"), ("sd", 2, "pictures of texts"),
        ("dit", ["ab"], "ids from 0 to 999"), ("dit", [1000], "ids from 0 to 999"), ("dit", 1, "ids from 0 to 999"),
        ("ddpm", ["ab"], "give how many"), ("ddpm", 0, "at least one"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            models[name].generate(wanted, Sampling(steps=1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="2 pictures are asked for, and 1 numbers"):
        models["ddpm"].generate(2, numbers=[1])
    with pytest.raises(ConfigError, match="give multiples of 4"):
        models["dit"].generate([1], Sampling(size=(18, 16)))
    with pytest.raises(ConfigError, match=r"the start is \[1, 3, 4, 4\] where \[1, 3, 8, 8\] is needed"):
        models["ddpm"].generate(1, start=torch.zeros(1, 3, 4, 4))


def test_a_folder_is_described_without_its_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("xl", "dit"):
        found, pipeline = describe(folders[name]), diffusers.DiffusionPipeline.from_pretrained(folders[name])
        assert found.read and found.kind == type(pipeline).__name__
        for part, (kind, parameters, _) in found.parts.items():
            there = pipeline.components[part]
            # Only the networks have parameters; what is left out has no class.
            assert kind == ("none" if there is None else type(there).__name__) or part.startswith("tokenizer")
            assert parameters == (there.num_parameters() if hasattr(there, "num_parameters") else 0)
    assert network_change(folders["sd"]) is None
    change = network_change(folders["dit"])
    assert change is not None and 1e-3 < change < 2
    folder = copied(folders["dit"], tmp_path / "trailing")
    changed(folder / "scheduler" / "scheduler_config.json", timestep_spacing="trailing")
    assert sorted(scheduler_changes(folder, 61).each) == ["spacing", "stride"]
