"""space-mini: pictures, words and sounds in one space, on a laptop.

    tectum train space_mini --out runs/space-mini    # the shipped model
    tectum train space_mini leave_vendor=twemoji hold_out=0.1 sound_partner=text --out runs/ablation

The second run never sees one vendor's drawings nor a tenth of the photographs and captions, and pairs sounds with words: it
gives the left-out scores, the topline of the sounds, and unseen pairs to calibrate relevance on.

Pictures teach words and words pictures (InfoNCE over a batch of photographs and drawings). Both also meet a table of concepts,
one learned vector for each name, so that every picture has all the names as negatives at every step; the table is not shipped.
The words of a name are also drawn onto its concept itself (1 − cosine): InfoNCE is content with a margin, and at a cosine of a
half what is left over drowns the small differences between an unknown vendor's drawings.
Sounds are aligned with pictures of what makes them, the pictures being frozen for that edge (ImageBind): no sound meets a word
or a concept. Captions of one photograph teach words about words.
Measured figures stand in the model card, weights/space-mini/README.md, written by `recipes/space_mini_card.py`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import space_mini_data as corpora
import torch
from safetensors.torch import load_file
from space_mini_scores import quick_scores
from torch import Tensor, nn
from torch.nn import functional as F

from tectum import hub
from tectum.contrastive.binding import Edge, bind
from tectum.data import augment
from tectum.data.order import batch_indices
from tectum.media.image import ImageSpec
from tectum.media.mel import whisper_mel
from tectum.media.text import Tokenizer, train_bpe
from tectum.models.encoders import GridConfig, TextConfig
from tectum.models.space import MAX_SCALE, Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, SoundTower, SoundTowerConfig, TextTowerConfig
from tectum.train.config import TrainConfig
from tectum.train.recipe import remember
from tectum.train.resolution import Growth
from tectum.train.trainer import train

PHOTO_TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}", "one {}")
DRAWING_TEMPLATES = ("{}", "{}", "{}", "a drawing of a {}", "{} emoji", "a picture of a {}")
IMAGE_TEXT = Edge(a="image", b="text")
IMAGE_CONCEPT = Edge(a="image", b="concept")
TEXT_CONCEPT = Edge(a="text", b="concept", weight=0.5)
CAPTIONS = Edge(a="caption", b="paraphrase", weight=0.3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Options of the run."""

    data: Path = field(default=Path("../shared/data"), metadata={"help": "folder with the Parquet files"})
    steps: int = field(default=3000, metadata={"help": "optimizer steps"})
    lr: float = field(default=2.5e-3, metadata={"help": "peak learning rate"})
    seed: int = field(default=0, metadata={"help": "seed of weights, order and augmentation"})
    photos: int = field(default=80, metadata={"help": "photographs a step"})
    drawings: int = field(default=130, metadata={"help": "emoji drawings a step"})
    negatives: int = field(default=150, metadata={"help": "further emoji names a step"})
    align: float = field(default=15.0, metadata={"help": "weight of 1 − cosine between a name's words and its concept"})
    sounds: int = field(default=24, metadata={"help": "recordings a step"})
    captions: int = field(default=16, metadata={"help": "pairs of captions a step"})
    sizes: tuple[int, ...] = field(
        default=(32, 48, 64), metadata={"help": "growing sides of the pictures; the last is the model's"}
    )
    starts: tuple[float, ...] = field(default=(0.0, 0.35, 0.6), metadata={"help": "share of the run at which each size starts"})
    leave_vendor: str = field(default="", metadata={"help": "vendor whose drawings are never seen (ablation)"})
    hold_out: float = field(default=0.0, metadata={"help": "share of photographs and captions kept for calibration"})
    sound_partner: str = field(default="image", metadata={"help": "image, or text for the direct topline"})
    every: int = field(default=2, metadata={"help": "words, sounds and captions learn once in so many steps"})
    threads: int = field(default=2, metadata={"help": "processor threads; another number gives another rounding"})


def space_config(vocab_size: int, image_size: int) -> SpaceConfig:
    """The architecture: convolution stages with one or two Transformer blocks on top, and a small text Transformer."""
    return SpaceConfig(
        name="space-mini",
        description="pictures, words and sounds in one space; trained on emoji, Caltech-101 and ESC-10",
        dim=256,
        towers={
            "image": ImageTowerConfig(
                image=ImageSpec(size=image_size, fit="squash", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), draft=True),
                grid=GridConfig(channels=3, widths=(48, 96, 192, 384), depths=(1, 1, 2, 1), blocks=1, heads=6, dropout=0.1),
            ),
            "text": TextTowerConfig(
                text=TextConfig(vocab_size=vocab_size, context=32, width=192, blocks=3, heads=6, dropout=0.1)
            ),
            "audio": SoundTowerConfig(
                mel=whisper_mel(80),
                seconds=2.5,
                grid=GridConfig(channels=1, widths=(24, 48, 96, 192), depths=(1, 1, 1, 1), blocks=1, heads=4, dropout=0.1),
            ),
        },
        templates=("{}", "a photo of a {}", "a picture of a {}", "a drawing of a {}"),
        precision="bf16",
    )


class WithConcepts(nn.Module):
    """The space, and the concepts [names, dim] that exist while it is trained."""

    def __init__(self, space: Space, names: int) -> None:
        super().__init__()
        self.space = space
        self.concepts = nn.Parameter(torch.randn(names, space.dim) * space.dim**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the concepts' scale within 1 … 100, as the space keeps its own."""
        self.log_scale.clamp_(0, torch.tensor(MAX_SCALE).log())


class SpaceMini:
    """The task: what a step learns from, and its loss."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.growth = Growth(sizes=recipe.sizes, starts=recipe.starts)
        photos = corpora.read_photos(recipe.data, "train", 112)
        held = torch.rand(len(photos.labels), generator=torch.Generator().manual_seed(1)) < recipe.hold_out
        self.photos, self.held_photos = photos.rows(~held), photos.rows(held)
        self.test_photos = corpora.read_photos(recipe.data, "test", recipe.sizes[-1])
        self.all_drawings = corpora.read_drawings(recipe.data)
        left = torch.tensor([vendor == recipe.leave_vendor for vendor in self.all_drawings.vendors])
        # Without the skin tones: five copies of a picture whose names nobody asks for.
        learned = self.all_drawings.base & ~self.all_drawings.held_out
        self.drawings = self.all_drawings.rows(learned & ~left)
        # Where no other vendor draws an emoji (most national flags), its name was never seen either: that is another question.
        seen = set(self.drawings.names)
        known = torch.tensor([name in seen for name in self.all_drawings.names])
        self.left_drawings = self.all_drawings.rows(learned & left & known)
        self.sounds = corpora.read_sounds(recipe.data, corpora.TRAIN_FOLDS)
        self.test_sounds = corpora.read_sounds(recipe.data, (corpora.VALIDATION_FOLD,))
        captions = [captions for captions in corpora.read_captions(recipe.data) if len(captions) > 1]
        self.tokenizer = self._tokenizer(captions)
        kept = round(len(captions) * (1 - recipe.hold_out))
        self.captions, self.held_captions = captions[:kept], captions[kept:]
        torch.manual_seed(recipe.seed)
        space = Space(space_config(self.tokenizer.vocab_size, recipe.sizes[-1]), self.tokenizer)
        names = self.drawings.names
        self.concepts = {name: at for at, name in enumerate(sorted({*names, *self.photos.names}))}
        self.module = WithConcepts(space, len(self.concepts))

        self.partners = [
            torch.tensor([i for i, name in enumerate(names) if name in corpora.SOUND_PICTURES[key]]) for key in self.sounds.keys
        ]
        self.class_words = [frozenset([name]) for name in self.photos.names]
        partner = self.recipe.sound_partner
        self.sound_edge = Edge(a="audio", b=partner, weight=0.5, frozen=partner)
        self.edges = (IMAGE_TEXT, IMAGE_CONCEPT, TEXT_CONCEPT, CAPTIONS, self.sound_edge)

    def _tokenizer(self, captions: list[list[str]]) -> Tokenizer:
        texts = [text for group in captions for text in group]
        words = [" ".join(words) for words in self.drawings.words] + list(self.photos.names) * 20
        return train_bpe(texts + words, vocab_size=6144, context=32)

    def batch(self, step: int) -> dict[str, Any]:
        """Photographs, drawings, texts, sounds and captions of one step, augmented."""
        recipe, seed = self.recipe, self.recipe.seed
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        size = self.growth.side(step, recipe.steps)

        names = self.drawings.names
        rows = torch.from_numpy(batch_indices(len(self.photos.labels), recipe.photos, seed, step))
        photos = self._augment_photos(self.photos.pixels[rows], size, generator)
        photos, partner, kept = augment.cut_mix(photos, generator, share=0.3)

        # Words and sounds learn faster than pictures, so most of the time goes to the pictures.
        all_views = step % recipe.every == 0
        at = torch.from_numpy(batch_indices(len(names), recipe.drawings, seed + 1, step))
        if all_views:
            at = torch.cat((at, *(choose(partners, generator)[None] for partners in self.partners * 2)))
        drawings = self._augment_drawings(at, size, generator)
        labels = self.photos.labels[rows]
        shown = [self.photos.names[label] for label in labels.tolist()] + [names[i] for i in at.tolist()]
        concepts = F.one_hot(torch.tensor([self.concepts[name] for name in shown]), len(self.concepts)).float()
        batch: dict[str, Any] = {
            "pixels": torch.cat((photos, drawings)) / 255,
            "targets": {IMAGE_CONCEPT: mixed(concepts, partner, kept)},
        }
        if not all_views:
            return batch

        texts, needs, named = self._texts(at, generator)
        told = [self.class_words[label] for label in labels.tolist()] + [self.drawings.words[i] for i in at.tolist()]
        fits = torch.tensor([[need <= words for need in needs] for words in told], dtype=torch.float32)
        targets = mixed(fits / fits.sum(1, keepdim=True), partner, kept)
        mel, classes = self._sounds(step, generator)
        if recipe.sound_partner == "image":
            partner_words = [corpora.SOUND_PICTURES[key] for key in self.sounds.keys]
            made_by = torch.tensor([[float(any(name in words for name in makers)) for words in told] for makers in partner_words])
            # A photograph that was pasted over teaches only as far as it is still itself.
            made_by[:, : len(rows)] *= (kept > 0.7).float()
        else:
            words = [corpora.SOUND_WORDS[key] for key in self.sounds.keys]
            texts, made_by = texts + words, F.pad(torch.eye(len(words)), (len(texts), 0))
            targets = F.pad(targets, (0, len(words)))
        captions, paraphrases = self._caption_pairs(step, generator)
        batch |= {"ids": self.tokenizer(texts + captions + paraphrases), "texts": len(texts), "mel": mel}
        batch["targets"] |= {
            IMAGE_TEXT: targets,
            TEXT_CONCEPT: self._named_concepts(named, len(texts)),
            self.sound_edge: classes @ made_by,
        }
        return batch

    def loss(self, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The weighted InfoNCE over all edges."""
        space = self.module.space
        views = space({"image": batch["pixels"]})
        views["concept"] = F.normalize(self.module.concepts, dim=-1)
        if "ids" in batch:
            text, more = space({"text": batch["ids"]})["text"].tensor_split([batch["texts"]])
            views["text"], (views["caption"], views["paraphrase"]) = text, more.chunk(2)
            tower = space.tower("audio")
            assert isinstance(tower, SoundTower)
            views["audio"] = F.normalize(tower.encode_mel(batch["mel"]).float(), dim=-1)
        scales = {
            IMAGE_TEXT: space.scale("image", "text"),
            IMAGE_CONCEPT: self.module.log_scale.exp(),
            TEXT_CONCEPT: self.module.log_scale.exp(),
            CAPTIONS: space.scale("text", "text"),
            self.sound_edge: space.scale("audio", self.sound_edge.b),
        }
        total, outputs = bind(views, self.edges, scales, batch["targets"])
        stats: dict[str, float | Tensor] = {f"{edge.a}-{edge.b}": output.loss.detach() for edge, output in outputs.items()}
        stats |= {f"{edge.a}-{edge.b} accuracy": output.accuracy for edge, output in outputs.items()}
        stats["scale"] = scales[IMAGE_CONCEPT].detach()
        if "text" in views:
            own = batch["targets"][TEXT_CONCEPT]
            named = own.any(1)
            cosine = (views["text"][named] * views["concept"][own[named].argmax(1)]).sum(1).mean()
            total = total + self.recipe.align * (1 - cosine)
            stats["text-concept cosine"] = cosine.detach()
        return total, stats

    def after_step(self, step: int) -> None:
        """Nothing: the module is projected by the trainer."""

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """Quick looks on held-out data; the card has the full table."""
        assert isinstance(module, WithConcepts)
        with torch.autocast("cpu", enabled=False):
            return quick_scores(self, module.space)

    def _augment_photos(self, pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
        flip = torch.ones(len(pixels), dtype=torch.bool)
        photos = augment.random_crop(pixels, (size, size), generator, scale=(0.5, 1.0), ratio=1.33, degrees=5, flip=flip)
        return augment.jitter_colour(photos, generator, strength=0.3, grey=0.1)

    def _augment_drawings(self, at: Tensor, size: int, generator: torch.Generator) -> Tensor:
        pixels, flip = self.drawings.pixels[at], self.drawings.mirrored[at]
        drawings = augment.random_crop(
            pixels, (size, size), generator, scale=(0.7, 1.5), ratio=1.15, degrees=8, flip=flip, inside=False
        )
        n = len(drawings)
        choice = torch.rand(n, generator=generator)[:, None, None, None]
        colour = torch.rand(n, 3, 1, 1, generator=generator) * 255
        behind = torch.where(choice < 0.7, 255.0, torch.where(choice < 0.8, 0.0, colour))
        drawings = drawings[:, :3] + behind * (1 - drawings[:, 3:] / 255)
        return augment.jitter_colour(drawings, generator, strength=0.2, grey=0.05)

    def _named_concepts(self, named: list[str], texts: int) -> Tensor:
        """Targets [texts, concepts] of the texts that hold a whole name; the others have none."""
        targets = torch.zeros(texts, len(self.concepts))
        for row, name in enumerate(named):
            if name:
                targets[row, self.concepts[name]] = 1
        return targets

    def _texts(self, at: Tensor, generator: torch.Generator) -> tuple[list[str], list[frozenset[str]], list[str]]:
        """Texts, the words each needs, and the name it holds (or ""): every class, each drawing, further emoji."""
        texts, needs, named = [], [], []
        for name in self.photos.names:
            texts.append(pick(PHOTO_TEMPLATES, generator).replace("{}", name))
            needs.append(frozenset([name]))
            named.append(name)
        others = torch.randint(len(self.drawings.names), (self.recipe.negatives,), generator=generator)
        for position, i in enumerate([*at.tolist(), *others.tolist()]):
            name = self.drawings.names[i]
            keywords = sorted(self.drawings.words[i] - {name})
            if position < len(at) and keywords and float(torch.rand((), generator=generator)) < 0.4:
                count = int(torch.randint(1, min(4, len(keywords)) + 1, (), generator=generator))
                chosen = [keywords[k] for k in torch.randperm(len(keywords), generator=generator)[:count].tolist()]
                text, need = pick((", ", " "), generator).join(chosen), frozenset(chosen)
                named.append("")
            else:
                text, need = pick(DRAWING_TEMPLATES, generator).replace("{}", name), frozenset([name])
                named.append(name)
            if float(torch.rand((), generator=generator)) < 0.05:
                text = text.replace(" ", "")  # compounds: "chainsaw" should read like "chain saw"
            texts.append(text)
            needs.append(need)
        return texts, needs, named

    def _caption_pairs(self, step: int, generator: torch.Generator) -> tuple[list[str], list[str]]:
        pairs: list[tuple[str, str]] = []
        for i in batch_indices(len(self.captions), self.recipe.captions, self.recipe.seed + 3, step).tolist():
            first, second = torch.randperm(len(self.captions[i]), generator=generator)[:2].tolist()
            pairs.append((self.captions[i][first], self.captions[i][second]))
        return [first for first, _ in pairs], [second for _, second in pairs]

    def _sounds(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augmented log-mel windows [n, bins, frames] and their classes [n, 10], mixed as in arXiv:1711.10282."""
        n = self.recipe.sounds
        rows = torch.from_numpy(batch_indices(len(self.sounds.labels), n, self.recipe.seed + 4, step))
        waves = torch.stack([self._window(self.sounds.waves[row], generator) for row in rows])
        classes = F.one_hot(self.sounds.labels[rows], len(self.sounds.keys)).float()
        partner = torch.randperm(n, generator=generator)
        share = torch.where(torch.rand(n, generator=generator) < 0.5, augment.uniform(n, 0.5, 1.0, generator), 1.0)[:, None]
        waves = share * waves + (1 - share) * waves[partner]
        classes = share * classes + (1 - share) * classes[partner]
        waves = waves + torch.randn(waves.shape, generator=generator) * 10 ** augment.uniform(n, -5, -2.3, generator)[:, None]
        gain = 10 ** augment.uniform(n, -0.8, 0.3, generator)
        mel = whisper_mel(80)(waves * gain[:, None])
        # Zoom in time and a little in pitch, then hide a band of each.
        mel = augment.random_crop(mel[:, None], (mel.shape[1], mel.shape[2]), generator, scale=(0.75, 1.0), ratio=1.2)[:, 0]
        return augment.mask_bands(mel, generator), classes

    def _window(self, wave: Tensor, generator: torch.Generator) -> Tensor:
        """2.5 s of a clip at unit peak: the loudest of three random places, for many clips are mostly silence."""
        length = round(2.5 * corpora.RATE)
        starts = torch.randint(0, len(wave) - length + 1, (3,), generator=generator).tolist()
        window = max((wave[start : start + length] for start in starts), key=lambda part: float(part.square().sum()))
        return window / window.abs().max().clamp(min=1e-3)


def mixed(targets: Tensor, partner: Tensor, kept: Tensor) -> Tensor:
    """Targets [n, m] whose first rows are shared with their partners' [p], as their pictures are: `kept` [p] is their own."""
    own = targets[: len(partner)]
    return torch.cat((kept[:, None] * own + (1 - kept[:, None]) * own[partner], targets[len(partner) :]))


def pick(options: tuple[str, ...], generator: torch.Generator) -> str:
    """One of the options."""
    return options[int(torch.randint(len(options), (), generator=generator))]


def choose(rows: Tensor, generator: torch.Generator) -> Tensor:
    """One of the rows, 0-d."""
    return rows[int(torch.randint(len(rows), (), generator=generator))]


def run(recipe: Recipe, out: Path) -> None:
    """Train, and write the model with the averaged weights to OUT/model."""
    remember(recipe, out)
    torch.set_num_threads(recipe.threads)
    task = SpaceMini(recipe)
    config = TrainConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        optimizer="muon",
        weight_decay=0.08,
        warmup=100,
        ema=0.998,
        seed=recipe.seed,
        eval_every=1000,
        save_every=200,
    )
    train(task, config, out)
    task.module.load_state_dict(load_file(out / "ema.safetensors"))
    hub.save(task.module.space.eval(), out / "model")
