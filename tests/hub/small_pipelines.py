"""Tiny random pipelines of diffusers, made and run by diffusers itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

from tectum.diffusion.noise import Independent

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TEXTS = ["ab a", "a cab, a dab! " * 12]
SIDES = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
PIXELS = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
LATENTS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


def randomised(model: Any, seed: int = 0) -> Any:
    """As after training, where no weight is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        scale = 0.1 if parameter.ndim < 2 else 0.7 * parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data += 1
    _, *others = getattr(model, "transformer_blocks", [None])
    for block in others:
        block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model.eval()


def tokenizer(pad: str = "<|endoftext|>") -> Any:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[("a", "b</w>")], model_max_length=77, pad_token=pad)


def text_encoder(kind: str, width: int, blocks: int, seed: int, **options: Any) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=515, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=blocks, num_attention_heads=2,
        **({"projection_dim": 20, "bos_token_id": 513, "eos_token_id": 2} | options),
    )  # fmt: skip
    return randomised(getattr(transformers, kind)(config), seed)


def vae(**options: Any) -> Any:
    config = {"block_out_channels": (8, 16), "norm_num_groups": 4, **SIDES, **options}
    return randomised(diffusers.AutoencoderKL(**config), 5)


def stable(**options: Any) -> Any:
    unet = diffusers.UNet2DConditionModel(
        **({"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, **LATENTS}
           | {"attention_head_dim": 2, "cross_attention_dim": 16} | options)
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        unet=randomised(unet), vae=vae(), text_encoder=text_encoder("CLIPTextModel", 16, 3, 1), tokenizer=tokenizer(),
        scheduler=diffusers.PNDMScheduler(**SD, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def xl(**options: Any) -> Any:
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, **LATENTS, attention_head_dim=2,
        use_linear_projection=True, cross_attention_dim=28, addition_embed_type="text_time", addition_time_embed_dim=6,
        projection_class_embeddings_input_dim=20 + 36,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        unet=randomised(unet), vae=vae(scaling_factor=0.13025),
        text_encoder=text_encoder("CLIPTextModel", 16, 3, 1), tokenizer=tokenizer(),
        text_encoder_2=text_encoder("CLIPTextModelWithProjection", 12, 2, 2, hidden_act="gelu"), tokenizer_2=tokenizer("!"),
        scheduler=diffusers.EulerDiscreteScheduler(**SD, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False, **options,
    )  # fmt: skip


def transformer() -> Any:
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2
    )
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return diffusers.DiTPipeline(transformer=randomised(network), vae=vae(), scheduler=scheduler)


def pixels(kind: str, scheduler: Any) -> Any:
    unet = diffusers.UNet2DModel(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, **PIXELS)
    return getattr(diffusers, kind)(unet=randomised(unet), scheduler=scheduler)


MAKERS: dict[str, Callable[[], Any]] = {
    "sd": stable,
    "xl": xl,
    "dit": transformer,
    "ddpm": lambda: pixels("DDPMPipeline", diffusers.DDPMScheduler()),
    "ddim": lambda: pixels("DDIMPipeline", diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")),
}
NUMBERS = [7, 3]
START = Independent(1, torch.tensor(NUMBERS)).start((4, 8, 8))


def theirs(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None, **options: Any) -> Tensor:
    """What diffusers makes, [n, c, h, w] in 0 … 1; with `monkeypatch` of noise that is ours."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if "clip_skip" in options:  # diffusers looks there for the norm, and transformers 5 has moved it
        pipeline.text_encoder.__dict__["text_model"] = pipeline.text_encoder
    if monkeypatch is not None:
        drawn = [0]
        source = Independent(1, torch.tensor(NUMBERS))

        def ours(shape: Sequence[int], dtype: torch.dtype | None = None, **_: Any) -> Tensor:
            step = drawn[0] - 1
            drawn[0] += 1
            start = source.start(tuple(shape)[1:])
            return start if step < 0 else source(start, step, None, None)  # type: ignore[arg-type]

        for module in (type(pipeline), type(pipeline.scheduler)):
            monkeypatch.setattr(f"{module.__module__}.randn_tensor", ours, raising=False)
    made = pipeline(output_type="np", **options).images
    return torch.from_numpy(made).permute(0, 3, 1, 2)


def assert_near(one: Tensor, other: Tensor) -> None:
    assert other.std() > 0.03 and other.isfinite().all()
    torch.testing.assert_close(one, other.to(one.dtype), rtol=0, atol=1e-5)


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
