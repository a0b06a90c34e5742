"""open_clip's CLIP and its training step, written out, for machines where it cannot be installed: it needs torchvision.

The modules, their names and their order of work are those that `open_clip.create_model` builds for a plain ViT (3.3.0):
nn.MultiheadAttention over fused weights, an additive mask over 77 tokens, every token through every block and the last norm. The
loss, AdamW's groups and the step are those of `open_clip_train` on one machine with its options as they come.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT, VOCABULARY = 77, 49408


class QuickGELU(nn.Module):
    """Of the models whose names end in -quickgelu."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerNorm(nn.LayerNorm):
    """Gives what came in, under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": activation(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        mask = None if mask is None else mask.to(y.dtype)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Trunk(nn.Module):
    def __init__(self, width: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation) for _ in range(12))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Vision(nn.Module):
    def __init__(self, dim: int, size: int, patch: int, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = LayerNorm(width), LayerNorm(width)
        self.transformer = Trunk(width, width // 64, activation)
        self.proj = nn.Parameter(torch.empty(width, dim))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels)
        x = x.reshape(*x.shape[:2], -1).permute(0, 2, 1)
        x = torch.cat((self.class_embedding.expand(len(x), 1, -1).to(x.dtype), x), dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


class Clip(nn.Module):
    """Two towers of 12 blocks with heads of 64; the weights are to be loaded."""

    def __init__(self, *, dim: int, size: int, patch: int, width: int, text_width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.visual = Vision(dim, size, patch, width, activation)
        self.token_embedding = nn.Embedding(VOCABULARY, text_width)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT, text_width))
        self.transformer = Trunk(text_width, text_width // 64, activation)
        self.ln_final = LayerNorm(text_width)
        self.text_projection = nn.Parameter(torch.empty(text_width, dim))
        self.logit_scale = nn.Parameter(torch.empty(()))
        later = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
        self.register_buffer("attn_mask", later, persistent=False)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)

    def encode_text(self, ids: Tensor) -> Tensor:
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding, self.attn_mask)
        return self.ln_final(x)[torch.arange(len(x), device=x.device), ids.argmax(-1)] @ self.text_projection

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text = F.normalize(self.encode_image(pixels), dim=-1), F.normalize(self.encode_text(ids), dim=-1)
        return image, text, self.logit_scale.exp()


def clip_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """`ClipLoss` on one machine."""
    by_image, by_text = scale * image @ text.T, scale * text @ image.T
    labels = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(by_image, labels) + F.cross_entropy(by_text, labels)) / 2


def optimizer_of(model: Clip) -> torch.optim.AdamW:
    """AdamW as for a ViT; vectors, norms, biases and the temperature do not decay."""
    named = list(model.named_parameters())
    still = [name for name, p in named if p.ndim < 2 or any(word in name for word in ("bn", "ln", "bias", "logit_scale"))]
    groups = [
        {"params": [p for name, p in named if name in still], "weight_decay": 0.0},
        {"params": [p for name, p in named if name not in still], "weight_decay": 0.2},
    ]
    return torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)


def step(
    model: Clip, optimizer: torch.optim.Optimizer, pixels: Tensor, ids: Tensor, autocast: Callable[[], torch.autocast]
) -> Tensor:
    """One step of `train_one_epoch`; returns the loss []."""
    optimizer.zero_grad()
    with autocast():
        loss = clip_loss(*model(pixels, ids))
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return loss.detach()
