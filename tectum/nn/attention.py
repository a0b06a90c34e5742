"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762), the only attention of the house."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.nn.linear import Linear

_SHORT = 512  # keys; above, bfloat16 is the faster one


class Attention(nn.Module):
    """softmax(q kᵀ / √(w/h) + mask) v per head, through PyTorch's fused kernel.

    Self-attention when `context` is left out, cross-attention otherwise. `weights` computes the probabilities themselves,
    in the plain way, for pictures and tests.

    Args:
        width: size of the tokens that ask.
        heads: number of heads; divides `width`.
        context_width: size of the tokens that answer, `width` if left out.

    Raises:
        ValueError: if `heads` does not divide `width`.

    >>> attention = Attention(8, 2)
    >>> attention(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    >>> attention.weights(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 2, 5, 5])
    """

    def __init__(self, width: int, heads: int, *, context_width: int | None = None, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.query = Linear(width, width, bias=bias)
        self.key = Linear(context_width or width, width, bias=bias)
        self.value = Linear(context_width or width, width, bias=bias)
        self.out = Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        bias: Tensor | None = None,
    ) -> Tensor:
        """[n, s, w] (and context [n, t, w']) to [n, s, w]; `mask` [n, t], True where a context token may be seen; `bias`
        [n or 1, h, s, t] is added to the logits."""
        return self.ask(x, *self.read(x if context is None else context), mask, causal, bias)

    def read(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [n, h, t, w/h] of a context [n, t, w']."""
        return self._split(self.key(context)), self._split(self.value(context))

    def ask(
        self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False, bias: Tensor | None = None
    ) -> Tensor:
        """`forward` of what `read` gave."""
        q = self._split(self.query(x))
        seen = None if mask is None else mask[:, None, None, :]
        if causal and (seen is not None or bias is not None):
            before = _causal(x.shape[1], k.shape[2], x.device)
            seen, causal = before if seen is None else seen & before, False
        if bias is not None:
            seen = bias if seen is None else bias.masked_fill(~seen, -math.inf)
        y = _mix(q, k, v, seen, causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """The attention probabilities [n, h, s, t] that `forward` mixes the values with."""
        q, k = self._split(self.query(x)), self.read(x if context is None else context)[0]
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None, :], -math.inf)
        if causal:
            logits = logits.masked_fill(~_causal(q.shape[2], k.shape[2], x.device), -math.inf)
        return logits.softmax(-1)

    def _split(self, y: Tensor) -> Tensor:
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _mix(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[2] > _SHORT:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal)
    # On a processor the kernel's bfloat16 takes longer than this, forward and back (3.4 × over 14 keys, 1.4 × over 197, as long
    # over 512), and errs up to twice as much.
    with torch.autocast("cpu", enabled=False):
        seen = seen.float() if seen is not None and seen.is_floating_point() else seen
        y = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=seen, is_causal=causal)
    return y.bfloat16()


def _causal(queries: int, keys: int, device: torch.device) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()
