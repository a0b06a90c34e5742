"""Tiny random checkpoints of the public families, made by transformers itself; and what they must be equal to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may ask the network

TEXTS = ["ab a", "a", "b" * 60, "", "Ab A <|endoftext|> b", "a  cab, a dab!", "CAB"]


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Wide, tall, square, smaller than a model's input, grey and transparent."""
    rng = np.random.default_rng(0)
    shapes = [(40, 61, 3), (50, 33, 3), (36, 36, 3), (20, 47, 3), (90, 47, 3), (41, 70, 4)]
    made = [Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)) for shape in shapes]
    return [*made, made[0].convert("L")]


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter as after training: none is 0 or 1, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
            if "logit_scale" in name:
                parameter.fill_(2.5)
    return model.eval()


def clip_vocabulary() -> list[str]:
    """Bytes, bytes that end a word, one merge, and CLIP's two marks, the end last."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*letters, *(letter + "</w>" for letter in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]


def make_clip(
    folder: Path, *, text: Any = (), vision: Any = (), pictures: Any = (), added: Sequence[str] = (), end: int = -1, dim: int = 20
) -> Path:
    """A CLIP folder as `save_pretrained` writes it; the options go over the tiny defaults, `end` is the id of the end mark."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    words = clip_vocabulary()
    if end >= 0:
        words = [*words[: end - 1], *words[-2:], *words[end - 1 : -2]]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[("a", "b</w>")], model_max_length=16)
    tokenizer.add_tokens(list(added))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    end = vocabulary["<|endoftext|>"]
    marks = {"eos_token_id": end, "bos_token_id": vocabulary["<|startoftext|>"], "pad_token_id": end}
    described = CLIPConfig(
        text_config={**sizes, **marks, "vocab_size": len(words) + len(added), "max_position_embeddings": 16, **dict(text)},
        vision_config={**sizes, "hidden_size": 24, "num_attention_heads": 3, "image_size": 32, "patch_size": 8, **dict(vision)},
        projection_dim=dim,
    )
    randomise(CLIPModel(described)).save_pretrained(folder)
    processor = CLIPImageProcessorPil(**{"size": {"shortest_edge": 32}, "crop_size": 32, **dict(pictures)})
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def make_siglip(folder: Path, *, text: Any = (), vision: Any = (), tokenizer: str = "gemma") -> Path:
    """A SigLIP folder with a tokenizer as SigLIP 2 has ("gemma": lower-cased, pad 0) or as SigLIP has ("t5": pad = end = 1)."""
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    made = gemma_tokenizer() if tokenizer == "gemma" else t5_tokenizer()
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    described = SiglipConfig(
        text_config={**sizes, "vocab_size": len(made), "max_position_embeddings": 12, **dict(text)},
        vision_config={**sizes, "image_size": 32, "patch_size": 8, **dict(vision)},
    )
    randomise(SiglipModel(described)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def gemma_tokenizer() -> Any:
    """As google's SigLIP 2 folders set it: no beginning, an end, padded on the right, no attention mask."""
    from transformers import Siglip2Tokenizer

    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"▁abcdefghijklmnopqrstuvwxyz.,!ABC", "ab"]
    words += [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {word: i for i, word in enumerate(words)}
    options = {"add_eos_token": True, "add_bos_token": False, "padding_side": "right", "model_max_length": 12}
    return Siglip2Tokenizer(vocab=vocabulary, merges=[("a", "b")], model_input_names=["input_ids"], **options)


def t5_tokenizer() -> Any:
    """As SigLIP's: a unigram model, lower case, no punctuation, padded with the end token."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in "abcdefghij"), ("▁ab", -2.5)]
    inner = Tokenizer(models.Unigram(pieces, unk_id=0))
    inner.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(r"[!,.<>|]"), "")])
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    marks = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=12, model_input_names=["input_ids"], **marks)


def make_clap(folder: Path, *, text: Any = (), sound: Any = (), extractor: Any = (), **options: Any) -> Path:
    """An unfused CLAP folder; the options go over the tiny defaults."""
    from tokenizers import pre_tokenizers
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "<mask>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[("a", "b")], model_max_length=20)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    square = {"num_mel_bins": 16, "spec_size": 32, "patch_embeds_hidden_size": 12, "window_size": 2}
    stages = {"depths": [2, 2], "num_attention_heads": [2, 3], "hidden_size": 24}
    described = ClapConfig(
        text_config={**sizes, "vocab_size": len(words), "max_position_embeddings": 22, **dict(text)},
        audio_config={**square, **stages, **dict(sound)},
        **{"projection_dim": 20, **options},
    )
    model = randomise(ClapModel(described))
    with torch.no_grad():
        norm = model.audio_model.audio_encoder.batch_norm
        norm.running_mean.copy_(torch.linspace(-60, -20, len(norm.running_mean)))
        norm.running_var.copy_(torch.linspace(20, 200, len(norm.running_var)))
        norm.num_batches_tracked.fill_(7)
    model.save_pretrained(folder)
    wanted = {"feature_size": 16, "sampling_rate": 8000, "hop_length": 200, "max_length_s": 1, "fft_window_size": 256}
    bands = {"frequency_min": 50, "frequency_max": 3900, "truncation": "rand_trunc"}
    listener = ClapFeatureExtractor(**{**wanted, **bands, **dict(extractor)})
    ClapProcessor(feature_extractor=listener, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def of_transformers(
    folder: Path, pictures: Sequence[Image.Image], texts: Sequence[str], **options: Any
) -> dict[str, torch.Tensor]:
    """Unit vectors and logits by transformers alone: its own image processor, tokenizer and model."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    longest = min(tokenizer.model_max_length, AutoConfig.from_pretrained(folder).text_config.max_position_embeddings)
    ids = tokenizer(list(texts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=list(pictures), return_tensors="pt")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(**ids, **pixels, **options)
    return {"image": found.image_embeds, "text": found.text_embeds, "logits": found.logits_per_image}


def assert_equal(space: Any, expected: dict[str, torch.Tensor], pictures: Sequence[Image.Image], texts: Sequence[str]) -> None:
    """A space's vectors are the expected ones to 1e-5, and so are its logits, relative to their scale."""
    found = space.embed(image=pictures, text=list(texts))
    for modality in ("image", "text"):
        torch.testing.assert_close(found[modality], expected[modality], rtol=0, atol=1e-5)
    assert torch.cdist(expected["text"], expected["text"]).max() > 1e-2, "the oracle tells texts apart"
    assert torch.cdist(expected["image"], expected["image"]).max() > 1e-2, "the oracle tells pictures apart"
    with torch.no_grad():
        logits = space.scale("image", "text") * found["image"] @ found["text"].T
        if hasattr(space, "bias"):
            logits = logits + space.bias("image", "text")
    torch.testing.assert_close(logits, expected["logits"], rtol=0, atol=2e-4)


@pytest.fixture(scope="session")
def make() -> dict[str, Callable[..., Path]]:
    """Makers of folders, by family."""
    return {"clip": make_clip, "siglip": make_siglip, "clap": make_clap}


@pytest.fixture(scope="session")
def oracle(pictures: list[Image.Image], texts: list[str]) -> Callable[..., dict[str, torch.Tensor]]:
    """`of_transformers` for these pictures and texts."""
    return partial(of_transformers, pictures=pictures, texts=texts)


@pytest.fixture(scope="session")
def same(pictures: list[Image.Image], texts: list[str]) -> Callable[..., None]:
    """`assert_equal` for these pictures and texts."""
    return partial(assert_equal, pictures=pictures, texts=texts)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Short, long beyond any context, empty, upper case, with a literal mark."""
    return TEXTS


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP as transformers saves it; not to be written to."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLAP as transformers saves it; not to be written to."""
    return make_clap(tmp_path_factory.mktemp("clap") / "clap")


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SigLIP 2 as transformers saves it; not to be written to."""
    return make_siglip(tmp_path_factory.mktemp("siglip") / "siglip")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Whole pipelines of diffusers by their short names."""
    from small_pipelines import MAKERS

    folders = {name: tmp_path_factory.mktemp("pipelines") / name for name in MAKERS}
    for name, folder in folders.items():
        MAKERS[name]().save_pretrained(folder)
    return folders
