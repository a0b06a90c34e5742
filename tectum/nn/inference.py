"""How a model shares a processor with the threads that decode for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products in bfloat16; where it has none, they take longer than float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions cannot tell
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def beside_decoders(*, half_precision: bool = True) -> Iterator[None]:
    """Within it, models take half of torch's threads and, where the hardware multiplies in it, bfloat16.

    The threads of a parallel loop wait for the slowest of them. If each has a decoder beside it on the same core, that can be
    most of the time.

    >>> with beside_decoders():
    ...     product = torch.ones(2, 8) @ torch.ones(8, 2)
    >>> product.float().sum().item()
    32.0
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    processor = torch.autocast("cpu", torch.bfloat16, enabled=half_precision and multiplies_bfloat16())
    graphics = torch.autocast("cuda", torch.bfloat16, enabled=half_precision and torch.cuda.is_available())
    try:
        with processor, graphics:
            yield
    finally:
        torch.set_num_threads(threads)
