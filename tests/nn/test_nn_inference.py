"""A model beside decoders: fewer threads and bfloat16 within, everything as before after."""

import pytest
import torch

from tectum.nn.inference import beside_decoders, multiplies_bfloat16


def test_threads_and_precision_come_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with pytest.raises(KeyError), beside_decoders():
            assert torch.get_num_threads() == 2
            raise KeyError
        assert torch.get_num_threads() == 4
        assert not torch.is_autocast_enabled("cpu")
        torch.set_num_threads(1)
        with beside_decoders():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("half", [True, False])
def test_products_are_in_bfloat16_where_the_processor_can_and_it_is_wanted(half: bool) -> None:
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with beside_decoders(half_precision=half):
        product = a @ a
    wanted = torch.bfloat16 if half and multiplies_bfloat16() else torch.float32
    assert product.dtype == wanted
    torch.testing.assert_close(product.float(), a @ a, rtol=0, atol=0.1)
