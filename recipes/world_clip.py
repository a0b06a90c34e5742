"""A small CLIP and a small cross-attention matcher, both trained on generated scenes of two shapes, in minutes on two cores.

    tectum train world_clip --out runs/world-clip
    tectum train world_clip batch=16 matcher=no --out runs/world-clip-16       # the same number of scenes, smaller batches
    python recipes/world_clip_card.py --run runs/world-clip --batches runs/world-clip-16 …

A step takes `batch` new scenes with one caption each ("a red cube on a blue sphere", or "a blue sphere and a red cube"). The two
towers learn by InfoNCE over the batch; the matcher learns beside them, by finding each picture's caption among others of the same
batch, which the towers think likely. Nobody makes up minimal pairs for them. A quarter of all pairs of a colour and a shape is
never shown. docs/worlds.md tells what comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tectum import hub
from tectum.contrastive.loss import info_nce
from tectum.contrastive.targets import Dense, Targets
from tectum.data.worlds import (
    PAIR_KINDS,
    Claim,
    Scene,
    World,
    captions,
    holds,
    make_scene,
    minimal_pair,
    pairs,
    picture,
    tell,
)
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.geometry import modality_gap
from tectum.evaluate.retrieval import first_hits, recall
from tectum.media.image import ImageSpec
from tectum.media.text import Tokenizer, train_bpe
from tectum.models.encoders import GridConfig, TextConfig
from tectum.models.matcher import Matcher, MatcherConfig, matching_loss
from tectum.models.space import Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, TextTowerConfig
from tectum.train.config import TrainConfig
from tectum.train.recipe import remember, remembered
from tectum.train.trainer import train

KINDS = tuple(kind for kind in PAIR_KINDS if kind != "count")  # In scenes of two unlike things there is nothing to count.
TEST = 1  # the seed of test scenes


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Options of the run."""

    scenes: int = field(default=256_000, metadata={"help": "scenes seen in all, whatever the batch"})
    batch: int = field(default=128, metadata={"help": "scenes a step"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    matcher: bool = field(default=True, metadata={"help": "train the matcher beside the two towers"})
    wrong: int = field(default=3, metadata={"help": "wrong captions and pictures that the matcher chooses among, each"})
    centred: bool = field(
        default=True, metadata={"help": "centre the towers' features before the last map (no: a plain CLIP head)"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the weights and of the training scenes' order"})
    size: int = field(default=32, metadata={"help": "side of the pictures"})
    words: int = field(default=5, metadata={"help": "number of colours, and of shapes"})
    partial: float = field(default=0.5, metadata={"help": "share of captions without a relation that name one thing only"})
    every: int = field(default=4, metadata={"help": "one in so many pairs of colour and shape is never shown"})
    width: int = field(default=64, metadata={"help": "width of the Transformers, and length of the vectors"})
    log_every: int = field(default=50, metadata={"help": "steps between two lines of the log"})
    eval_every: int = field(default=500, metadata={"help": "steps between two evaluations"})
    threads: int = field(default=2, metadata={"help": "processor threads; another number gives another rounding"})

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return max(1, self.scenes // self.batch)

    def world(self, part: str = "seen") -> World:
        """The scenes: "seen" ones are trained on, "unseen" ones hold only pairs of colour and shape that are never shown."""
        world = pairs(self.size)
        colours, shapes = world.colours[: self.words], world.shapes[: self.words]
        return replace(world, colours=colours, shapes=shapes, partial=self.partial, every=self.every, part=part)


def grid(recipe: Recipe) -> GridConfig:
    """The image encoder of both models."""
    widths = (recipe.width // 4, recipe.width // 2, recipe.width)
    return GridConfig(channels=3, widths=widths, depths=(1, 1, 1), blocks=1, heads=4)


def text(recipe: Recipe, tokenizer: Tokenizer) -> TextConfig:
    """The text encoder of both models."""
    return TextConfig(vocab_size=tokenizer.vocab_size, context=tokenizer.context, width=recipe.width, blocks=2, heads=4)


def image_spec(recipe: Recipe) -> ImageSpec:
    """How both models see pictures."""
    return ImageSpec(size=recipe.size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Both(nn.Module):
    """The two towers, and the matcher if it is trained."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer) -> None:
        super().__init__()
        towers = {
            "image": ImageTowerConfig(image=image_spec(recipe), grid=grid(recipe)),
            "text": TextTowerConfig(text=text(recipe, tokenizer)),
        }
        config = SpaceConfig(
            name="world-clip",
            description="two towers for generated scenes of two shapes",
            dim=recipe.width,
            towers=towers,
            templates=("{}", "a picture of {}", "a scene with {}"),
        )
        self.space = Space(config, tokenizer)
        if not recipe.centred:
            for tower in self.space.towers.values():
                tower.encoder.head[0] = nn.LayerNorm(recipe.width)
        self.matcher = None
        if recipe.matcher:
            self.matcher = Matcher(
                MatcherConfig(image=image_spec(recipe), grid=grid(recipe), text=text(recipe, tokenizer)), tokenizer
            )


class WorldClip:
    """The task: what a step learns from, and its loss."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        words = [caption for index in range(2000) for caption in captions(make_scene(recipe.world("all"), 0, index), 2)]
        self.tokenizer = train_bpe(words, vocab_size=400, context=20)
        torch.manual_seed(recipe.seed)
        self.module = Both(recipe, self.tokenizer)

    def scenes(self, step: int) -> list[Scene]:
        """The scenes of a step: of a series that is neither the tests' nor another seed's, each once."""
        n = self.recipe.batch
        return [make_scene(self.recipe.world(), 2 + self.recipe.seed, index) for index in range(step * n, (step + 1) * n)]

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures uint8 [n, 3, s, s], captions as ids [n, context], and which are true of which pictures, bool [n, n]."""
        scenes = self.scenes(step)
        claims, texts = zip(*(tell(scene) for scene in scenes), strict=True)
        return as_pixels([picture(scene) for scene in scenes]), self.tokenizer(texts), truths(scenes, claims)

    def loss(self, batch: tuple[Tensor, Tensor, Tensor], step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """InfoNCE of the towers, and the cross-entropy of the matcher. What is true by chance is no negative to either."""
        pixels, ids, true = batch
        space, matcher = self.module.space, self.module.matcher
        views, scale = space({"image": pixels, "text": ids}), space.scale("image", "text")
        towers = info_nce(views["image"], views["text"], scale, targets=Targets(ignored=Dense(true.float())))
        stats: dict[str, float | Tensor] = {"towers": towers.loss.detach(), "towers accuracy": towers.accuracy}
        stats["scale"] = scale.detach()
        if matcher is None:
            return towers.loss, stats
        likeness = scale.detach() * views["image"].detach() @ views["text"].detach().T
        matching, right = matching_loss(matcher, pixels, ids, likeness, true, wrong=self.recipe.wrong)
        return towers.loss + matching, {**stats, "matcher": matching.detach(), "matcher accuracy": right}

    def after_step(self, step: int) -> None:
        """Nothing: the trainer keeps the temperature within bounds."""

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """Quick looks at test scenes; the card has the full tables."""
        assert isinstance(module, Both)
        world, scores = self.recipe.world(), {}
        image, words, true = vectors(module.space, world, 500)
        scores["recall@1"] = recall(first_hits(Cosines(image, words), true), 1).score(resamples=0).value
        scores["gap"] = modality_gap(image, words).score(resamples=0).value
        for kind in KINDS[:3]:
            asked = [minimal_pair(world, kind, TEST, index) for index in range(200)]
            pixels = as_pixels([picture(pair.scene) for pair in asked])
            true, false = (self.tokenizer([getattr(pair, side) for pair in asked]) for side in ("positive", "negative"))
            image, right, wrong = (
                module.space({name: what})[name] for name, what in (("image", pixels), ("text", true), ("text", false))
            )
            scores[f"towers {kind}"] = ((image * right).sum(1) > (image * wrong).sum(1)).float().mean().item()
            if module.matcher is not None:
                seen = module.matcher.look(pixels)
                scores[f"matcher {kind}"] = (
                    (module.matcher.compare(seen, true) > module.matcher.compare(seen, false)).float().mean().item()
                )
        return scores


def truths(scenes: Sequence[Scene], claims: Sequence[Claim]) -> Tensor:
    """Which claims (columns) hold for which scenes (rows), bool [n, n]."""
    kinds = [frozenset((thing.colour, thing.shape) for thing in scene.things) for scene in scenes]
    named = [frozenset((noun.colour, noun.shape) for noun in claim.nouns) for claim in claims]
    # Few scenes hold all that a claim names; only of them the claim itself is asked.
    true = [
        [names <= kind and holds(claim, scene) for names, claim in zip(named, claims, strict=True)]
        for kind, scene in zip(kinds, scenes, strict=True)
    ]
    return torch.tensor(true)


def as_pixels(pictures: list[np.ndarray]) -> Tensor:
    """Pictures uint8 [s, s, 3] to one batch [n, 3, s, s]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@torch.inference_mode()
def vectors(space: Space, world: World, count: int) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """Unit vectors [count, d] of test scenes and of their captions, and for each scene the captions that are true of it."""
    scenes = [make_scene(world, TEST, index) for index in range(count)]
    claims, texts = zip(*(tell(scene) for scene in scenes), strict=True)
    found = space.embed(image=[picture(scene) for scene in scenes], text=texts)
    return found["image"], found["text"], [np.flatnonzero(row) for row in truths(scenes, claims)]


def run(recipe: Recipe, out: Path) -> None:
    """Train, and write the space with the averaged weights to OUT/model (unless its head is not that of a `Space`)."""
    remember(recipe, out)
    torch.set_num_threads(recipe.threads)
    task = WorldClip(recipe)
    config = TrainConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        optimizer="muon",
        warmup=min(100, recipe.steps // 10),
        ema=0.99,
        seed=recipe.seed,
        precision="fp32",  # as fast as bfloat16 at this size
        log_every=recipe.log_every,
        eval_every=recipe.eval_every,
        save_every=500,
        tensorboard=False,
    )
    train(task, config, out)
    task.module.load_state_dict(load_file(out / "ema.safetensors"))
    if recipe.centred:
        hub.save(task.module.space.eval(), out / "model")


def open_run(folder: Path) -> tuple[Recipe, Both]:
    """A finished run: its options, and its models with the averaged weights, ready to be asked."""
    recipe = remembered(Recipe(), folder)
    module = WorldClip(recipe).module
    module.load_state_dict(load_file(folder / "ema.safetensors"))
    return recipe, module.eval()
