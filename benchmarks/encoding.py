"""Pictures and texts a second through CLIP ViT-B/32, beside transformers and open_clip, with the same random weights.

    python benchmarks/encoding.py [--images 32] [--texts 64] [--threads 1] [--device cpu]

All three get prepared inputs, give the same unit vectors (checked, to 1e-5) and take turns; of each the best round counts. On one
thread the clock is the process's own, so that what else runs on the machine counts less. Pictures come as bytes to tectum,
which normalises them within the measured time, and normalised to the others. Texts are 10 to 20 tokens long, marks included, as
captions are. open_clip's tokenizer pads all of them to 77, and so does transformers' with padding="max_length"; with padding=True
transformers pads to the longest, which is shown too.

open_clip needs torchvision, so its two encoders are written out in open_clip_step.py: the modules that
`open_clip.create_model("ViT-B-32-quickgelu")` is made of.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tokenizers
import torch
from measuring import print_table
from open_clip_step import CONTEXT, Clip, QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.hub.bridge import TwoTowers, build, named
from tectum.hub.layouts import clip_hf, openai
from tectum.hub.pictures import openai_pictures
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.space import Space
from tectum.models.vit import ViTConfig

START, END, SIZE = 49406, 49407, 224
Encoders = Mapping[str, Callable[[], Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="pictures in a batch")
    parser.add_argument("--texts", type=int, default=64, help="texts in a batch")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5, help="of which the best counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    theirs, ours, plain = models(options.device)
    rows = []
    with torch.inference_mode():
        for what, count, encoders in (
            ("pictures/s", options.images, pictures(theirs, ours, plain, options.images, options.device)),
            ("texts/s", options.texts, texts(theirs, ours, plain, options.texts, options.device)),
        ):
            best = measure(encoders, options.rounds, options.device, options.threads)
            mine = count / best.pop("tectum")
            for name, time in best.items():
                rows.append((f"{what} by tectum and {name}", f"{mine:.1f}", f"{count / time:.1f}", f"{mine * time / count:.2f}"))
    print_table(("what", "tectum", "other", "ratio"), rows)


def models(device: str) -> tuple[nn.Module, Space, Clip]:
    """ViT-B/32 three times with the same weights: transformers', ours, and open_clip's written out."""
    from transformers import CLIPConfig, CLIPModel

    theirs = CLIPModel(CLIPConfig()).eval()
    trunk = {"blocks": 12, "activation": "quick_gelu"}
    words = tokenizers.Tokenizer(tokenizers.models.BPE())  # no text is read here, only ids
    parts = TwoTowers(
        dim=512,
        pictures=openai_pictures(SIZE),
        vision=ViTConfig(size=SIZE, patch=32, width=768, heads=12, hidden=3072, **trunk),
        text=ClipTextConfig(vocab_size=END + 1, context=CONTEXT, width=512, heads=8, hidden=2048, **trunk),
        tokenizer=Tokenizer(inner=words, bos=START, eos=END, pad=END, context=CONTEXT),
    )
    ours = build(parts, clip_hf.RULES, theirs.state_dict(), Path("ViT-B-32"))
    plain = Clip(dim=512, size=SIZE, patch=32, width=768, text_width=512, activation=QuickGELU)
    plain.load_state_dict(named(ours, openai.rules()))
    return theirs.to(device), ours.to(device), plain.eval().to(device)


def pictures(theirs: nn.Module, ours: Space, plain: Clip, count: int, device: str) -> Encoders:
    """The variants over one batch of pictures."""
    levels = torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
    pixels = openai_pictures(SIZE).normalise(levels)
    return {
        "tectum": lambda: ours({"image": levels})["image"],
        "transformers": lambda: unit(theirs.get_image_features(pixel_values=pixels).pooler_output),
        "open_clip": lambda: unit(plain.encode_image(pixels)),
    }


def texts(theirs: nn.Module, ours: Space, plain: Clip, count: int, device: str) -> Encoders:
    """The variants over one batch of texts of ordinary length."""
    lengths = torch.randint(10, 21, (count,))
    places = torch.arange(CONTEXT)
    ids = torch.randint(0, START, (count, CONTEXT)).masked_fill(places >= lengths[:, None] - 1, END)
    ids[:, 0] = START
    mask = (places < lengths[:, None]).long()
    ids, mask, longest = ids.to(device), mask.to(device), int(lengths.max())

    def transformers(length: int) -> Tensor:
        return unit(theirs.get_text_features(input_ids=ids[:, :length], attention_mask=mask[:, :length]).pooler_output)

    return {
        "tectum": lambda: ours({"text": ids})["text"],
        "transformers, 77 tokens": lambda: transformers(CONTEXT),
        "transformers, the longest": lambda: transformers(longest),
        "open_clip, 77 tokens": lambda: unit(plain.encode_text(ids)),
    }


def measure(encoders: Encoders, rounds: int, device: str, threads: int) -> dict[str, float]:
    """Seconds of the best of `rounds` in turn, after a first that checks that all give the same."""

    clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter

    def once(encode: Callable[[], Tensor]) -> float:
        start = clock()
        encode()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - start

    first = encoders["tectum"]()
    for name, encode in encoders.items():
        torch.testing.assert_close(encode(), first, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    runs = [{name: once(encode) for name, encode in encoders.items()} for _ in range(rounds)]
    return {name: min(run[name] for run in runs) for name in encoders}


def unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return F.normalize(x, dim=-1)


if __name__ == "__main__":
    main()
