"""paint-mini: pictures of 64 × 64 pixels in the manner of emoji, from a text.

    tectum train paint_codec --out runs/paint-codec
    tectum train paint_mini --out runs/paint-mini
    tectum train paint_mini begin=runs/paint-mini sizes=64 starts=0 steps=3000 --out runs/paint-mini-2
    tectum train paint_mini begin=runs/paint-mini-2 colours=2 sizes=64 starts=0 steps=2400 --out runs/paint-mini-3

A U-Net learns the flow from noise to the latents of emoji drawings (rectified flow, arXiv:2209.03003, with the times of
arXiv:2403.03206, §3.1). It is told the text by an encoder that begins as that of space-mini, which knows the names of things, and
goes on learning here. A text is a drawing's name or some of its keywords, often with the style of who drew it ("flat style"), and
in one of ten steps nothing at all, so that guidance has something to lead away from. Latents are made once, before the run. In
its first half drawings have half the side, which costs a quarter and teaches what belongs to a name. Those of held-out code
points are never seen: they are what the model is compared with. Figures stand in the model card, weights/paint-mini/README.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paint_codec as codec
import space_mini_data as corpora
import torch
from paint_mini_colours import recoloured
from safetensors.torch import load_file
from space_mini import pick
from space_mini_scores import on_white
from torch import Tensor, nn
from torch.nn import functional as F

from tectum import hub
from tectum.data.order import batch_indices
from tectum.diffusion.denoiser import loss as denoising_loss
from tectum.diffusion.weights import logit_normal, plain_flow, stratified
from tectum.hub.generators import save_text_to_image
from tectum.media.sheet import sheet
from tectum.media.text import Tokenizer
from tectum.models.encoders import TextEncoder
from tectum.models.sampling import Sampling
from tectum.models.text_to_image import TextToImage, TextToImageConfig
from tectum.models.towers import TextTower
from tectum.nn.autoencoder import AutoencoderConfig
from tectum.nn.conditions import ConditionConfig
from tectum.nn.unet_config import Attend, Level, UNetConfig
from tectum.train.config import TrainConfig
from tectum.train.recipe import remember
from tectum.train.resolution import Growth
from tectum.train.trainer import train

STYLES = {"noto": "noto", "twemoji": "flat", "fluent-color": "fluent", "fluent-3d": "3d"}
TEMPLATES = ("{}", "{}", "a {}", "{} emoji", "a drawing of a {}")
PROMPTS = (
    "a red apple, 3d style", "a red apple, flat style", "a blue apple", "a happy face", "a cat with sunglasses", "a crying cat",
    "a yellow car", "a house with a garden", "a pizza, flat style", "a green heart", "a dragon", "a chef, 3d style",
    "a snowman", "a guitar", "an angry red face", "a rocket, noto style",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Options of the run."""

    data: Path = field(default=Path("../shared/data"), metadata={"help": "folder with the Parquet files"})
    codec: Path = field(default=Path("runs/paint-codec"), metadata={"help": "finished run of paint_codec"})
    begin: Path | None = field(
        default=None, metadata={"help": "finished run of this recipe whose averaged weights this one begins as"}
    )
    words: str = field(default="space-mini", metadata={"help": "space whose text encoder this one begins as"})
    steps: int = field(default=2800, metadata={"help": "optimizer steps"})
    batch: int = field(default=96, metadata={"help": "drawings a step at full size; of half the side twice as many"})
    sizes: tuple[int, ...] = field(default=(32, 64), metadata={"help": "side of the drawings in each stage"})
    starts: tuple[float, ...] = field(default=(0.0, 0.5), metadata={"help": "share of the run at which each stage starts"})
    lr: float = field(default=1e-3, metadata={"help": "peak learning rate"})
    widths: tuple[int, ...] = field(default=(64, 128, 224), metadata={"help": "of the U-Net, finest first"})
    plain: int = field(default=3, metadata={"help": "times a drawing is shown for each time one of another skin tone is"})
    colours: int = field(default=0, metadata={"help": "drawings in other colours that are made of each of one colour"})
    tokens: int = field(default=20, metadata={"help": "that are read of a text; it is couples of two skin tones that have more"})
    unsaid: float = field(default=0.1, metadata={"help": "share of the texts that are left empty"})
    seed: int = field(default=0, metadata={"help": "seed of weights, order, texts and noise"})
    threads: int = field(default=2, metadata={"help": "processor threads; another number gives another rounding"})


def paint_config(words: TextEncoder, text: Any, autoencoder: AutoencoderConfig, recipe: Recipe) -> TextToImageConfig:
    """The architecture: everywhere but at the finest level the U-Net attends to itself and to the text."""
    attend = Attend(heads=4, depth=1)
    finest, *coarser = recipe.widths
    unet = UNetConfig(
        channels_in=autoencoder.latents,
        channels_out=autoencoder.latents,
        levels=(Level(width=finest, blocks=1), *(Level(width=width, blocks=1, attend=attend) for width in coarser)),
        middle=attend,
        told=ConditionConfig(features=finest, pooled=text.width),
        context=text.width,
        modulation="scale_shift",
    )
    return TextToImageConfig(
        name="paint-mini",
        description="pictures of 64 × 64 pixels in the manner of emoji, from a text",
        size=codec.SIZE,
        text=text,
        autoencoder=autoencoder,
        denoiser=unet,
    )


class Painting(nn.Module):
    """What learns: the words and the network. The autoencoder is finished."""

    def __init__(self, painter: TextToImage) -> None:
        super().__init__()
        self.prompts, self.network = painter.prompts, painter.network


class PaintMini:
    """The task."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.all_drawings = drawings = corpora.read_drawings(recipe.data)
        self.drawings = recoloured(drawings.rows(~drawings.held_out), recipe.colours)
        self.test = drawings.rows(drawings.held_out & drawings.base)
        self.space = hub.load(recipe.words).requires_grad_(False)
        tower = self.space.tower("text")
        assert isinstance(tower, TextTower) and isinstance(tower.encoder, TextEncoder)
        autoencoder = codec.open_run(recipe.codec)
        torch.manual_seed(recipe.seed)
        config = paint_config(tower.encoder, tower.config.text, autoencoder.config, recipe)
        self.painter = TextToImage(config, tower.tokenizer)
        known = {name: value for name, value in tower.encoder.state_dict().items() if not name.startswith("head.")}
        self.painter.prompts.encoder.load_state_dict(known)
        self.painter.autoencoder = autoencoder.requires_grad_(False)
        self.module = Painting(self.painter)
        if recipe.begin is not None:
            self.module.load_state_dict(load_file(recipe.begin / "ema.safetensors"))
        base = self.drawings.base.nonzero()[:, 0]
        self.rows = torch.cat((torch.arange(len(self.drawings.names)), base.repeat(recipe.plain - 1)))
        self.growth = Growth(sizes=recipe.sizes, starts=recipe.starts)
        self.latents = {size: tuple(self._latents(self.drawings, size, flip) for flip in (False, True)) for size in recipe.sizes}
        self.test_latents = self._latents(self.test, codec.SIZE, flip=False)

    @property
    def tokenizer(self) -> Tokenizer:
        """Texts to ids."""
        return self.painter.prompts.tokenizer

    @torch.no_grad()
    def _latents(self, drawings: corpora.Drawings, size: int, flip: bool) -> Tensor:
        parts = []
        for pixels in drawings.pixels.split(128):
            pictures = on_white(pixels, size) * 2 - 1
            parts.append(self.painter.autoencoder.latents(pictures.flip(3) if flip else pictures))
        return torch.cat(parts)

    def batch(self, step: int) -> Any:
        """Latents, the ids of their texts, noise, and numbers that become times."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        size = self.growth.side(step, recipe.steps)
        count = recipe.batch * codec.SIZE // size
        at = self.rows[torch.from_numpy(batch_indices(len(self.rows), count, recipe.seed, step))]
        flip = self.drawings.mirrored[at] & (torch.rand(len(at), generator=generator) < 0.5)
        plain, mirrored = self.latents[size]
        latents = torch.where(flip[:, None, None, None], mirrored[at], plain[at])
        texts = [self._text(self.drawings, i, generator) for i in at.tolist()]
        noise = torch.randn(latents.shape, generator=generator)
        return latents, self.tokenizer(texts)[:, : recipe.tokens], noise, stratified(len(at), torch.rand((), generator=generator))

    def _text(self, drawings: corpora.Drawings, i: int, generator: torch.Generator) -> str:
        def chance() -> float:
            return float(torch.rand((), generator=generator))

        if chance() < self.recipe.unsaid:
            return ""
        name, keywords = drawings.names[i], sorted(drawings.words[i] - {drawings.names[i]})
        if keywords and chance() < 0.25:
            chosen = torch.randperm(len(keywords), generator=generator)[: 1 + int(chance() * min(4, len(keywords)))].tolist()
            text = pick((", ", " "), generator).join(keywords[k] for k in chosen)
        else:
            text = pick(TEMPLATES, generator).replace("{}", name)
        return f"{text}, {STYLES[drawings.vendors[i]]} style" if chance() < 0.6 else text

    def loss(self, batch: Any, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The plain error in the velocity, at logit-normal times."""
        latents, ids, noise, uniform = batch
        return self._error(self.painter, latents, ids, noise, uniform).mean(), {}

    @staticmethod
    def _error(painter: TextToImage, latents: Tensor, ids: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        route = painter.route(1)
        told = painter.prompts.read(ids)
        return denoising_loss(
            route.denoiser(painter.network), latents, noise, logit_normal(route.process)(uniform), plain_flow, told
        )

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """The same error on held-out drawings, and how often space-mini knows a painted thing by its name."""
        assert isinstance(module, Painting)
        painter = TextToImage(self.painter.config, self.tokenizer)
        painter.prompts, painter.network, painter.autoencoder = module.prompts, module.network, self.painter.autoencoder
        painter.eval()
        generator = torch.Generator().manual_seed(1)
        rows = self.test_latents[:: max(1, len(self.test_latents) // 256)]
        names = [name for name in self.test.names][:: max(1, len(self.test_latents) // 256)]
        noise = torch.randn(rows.shape, generator=generator)
        error = self._error(painter, rows, self.tokenizer(names), noise, stratified(len(rows), torch.tensor(0.5)))
        everyone = sorted({name for name, base in zip(self.drawings.names, self.drawings.base.tolist(), strict=True) if base})
        asked = everyone[:: len(everyone) // 64][:64]
        pictures = painter.generate(asked, Sampling(steps=10))
        shown = F.normalize(self.space({"image": pictures.float() / 255})["image"], dim=-1)
        best = (shown @ self.space.label_vectors(everyone).T).topk(5).indices
        right = best == torch.tensor([everyone.index(name) for name in asked])[:, None]
        return {
            "held-out error": error.mean().item(),
            "known by name": right[:, 0].float().mean().item(),
            "among five": right.any(1).float().mean().item(),
        }

    def after_step(self, step: int) -> None:
        """Nothing."""


def show(painter: TextToImage, prompts: Sequence[str], path: Path, sampling: Sampling) -> None:
    """A sheet of one picture for each prompt."""
    sheet(painter.generate(prompts, sampling)).save(path)


def finished(task: PaintMini, out: Path) -> TextToImage:
    """The model with the averaged weights of a run."""
    task.module.load_state_dict(load_file(out / "ema.safetensors"))
    return task.painter.eval()


def run(recipe: Recipe, out: Path) -> None:
    """Train, and write the model with the averaged weights to OUT/model and a sheet of its pictures to OUT/prompts.png."""
    remember(recipe, out)
    torch.set_num_threads(recipe.threads)
    task = PaintMini(recipe)
    config = TrainConfig(
        steps=recipe.steps, lr=recipe.lr, optimizer="muon", weight_decay=0.02, warmup=200, ema=0.998, seed=recipe.seed,
        eval_every=700, save_every=200, log_every=20,
    )  # fmt: skip
    train(task, config, out)
    painter = finished(task, out)
    save_text_to_image(painter, out / "model")
    show(painter, PROMPTS, out / "prompts.png", replace(Sampling(), steps=30))
