"""The linear layer of the Transformers."""

import torch
from torch import Tensor, nn

_LARGE = 512  # on both sides: below, oneDNN gains little


class Linear(nn.Linear):
    """`nn.Linear`, whose large float32 products on a CPU go through oneDNN where no gradient is wanted.

    PyTorch itself calls MKL there, which takes about a tenth longer on AMD's processors. The two differ in the last bits.

    >>> layer = Linear(512, 512).eval()
    >>> x = torch.randn(3, 7, 512)
    >>> with torch.inference_mode():
    ...     torch.allclose(layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5)
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        by_onednn = (
            min(self.in_features, self.out_features) >= _LARGE
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what torch.compile uses; no public function reaches it
        )
        if not by_onednn:
            return super().forward(x)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y
