"""Latents are made once; a file of another autoencoder or of other data is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tectum.data.latents import cached_latents, fingerprint
from tectum.errors import DataError
from tectum.nn.autoencoder import Autoencoder, tiny_autoencoder


class Codec(nn.Module):
    """Counts what it encodes, and has dropout, so that its mode matters."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.drop, self.seen = nn.Conv2d(3, 4, 2, stride=2), nn.Dropout(0.5), 0

    def latents(self, x):
        self.seen += len(x)
        assert not torch.is_grad_enabled()
        return self.drop(self.conv(x))


PICTURES = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def encoded(path, codec, source="ten pictures"):
    return cached_latents(path, codec, codec.latents, lambda: PICTURES.split(4), source)


def test_the_second_call_reads_what_the_first_wrote(tmp_path):
    codec, path = Codec().train(), tmp_path / "deep" / "latents.safetensors"
    first = encoded(path, codec)
    again = encoded(path, codec)
    assert torch.equal(first, again) and codec.seen == 10 and codec.training
    torch.testing.assert_close(first, codec.conv(PICTURES).detach())
    assert [each.name for each in path.parent.iterdir()] == ["latents.safetensors"]


def test_other_weights_or_other_data_are_refused(tmp_path):
    codec, path = Codec(), tmp_path / "latents.safetensors"
    encoded(path, codec)
    with pytest.raises(DataError, match=r"latents of source 'ten pictures', and 'mirrored'.*remove it"):
        encoded(path, codec, "mirrored")
    codec.conv.weight.data[0, 0, 0, 0] += 1e-6
    with pytest.raises(DataError, match="latents of autoencoder"):
        encoded(path, codec)


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_broken_file_is_refused(tmp_path, content):
    codec, path = Codec(), tmp_path / "latents.safetensors"
    encoded(path, codec)
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    with pytest.raises(DataError, match="remove it"):
        encoded(path, codec)


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def batches():
        yield PICTURES
        raise KeyboardInterrupt

    codec = Codec().train()
    with pytest.raises(KeyboardInterrupt):
        cached_latents(tmp_path / "a.safetensors", codec, codec.latents, batches, "x")
    assert not list(tmp_path.iterdir()) and codec.training
    with pytest.raises(DataError, match="no data"):
        cached_latents(tmp_path / "a.safetensors", codec, codec.latents, lambda: [], "x")


def test_the_configuration_counts_as_well_as_the_weights():
    torch.manual_seed(0)
    one = Autoencoder(tiny_autoencoder())
    other = Autoencoder(replace(one.config, scale=2.0))
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(one.to(memory_format=torch.channels_last))
    assert fingerprint(one) != fingerprint(one.half())
