"""The KL autoencoder and its Gaussian by closed forms; parity with diffusers is in tests/hub/test_hub_diffusers_networks.py."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.autoencoder import Autoencoder, AutoencoderConfig, measured, sd_autoencoder, tiny_autoencoder
from tectum.nn.gaussian import DiagonalGaussian


@pytest.fixture
def gaussian(random: Callable) -> DiagonalGaussian:
    return DiagonalGaussian.of(random(3, 8, 2, 5))


def test_the_gaussian_is_that_of_torch_distributions(random: Callable, gaussian: DiagonalGaussian) -> None:
    a, b, x = gaussian, DiagonalGaussian.of(random(3, 8, 2, 5)), random(3, 4, 2, 5)
    normal = Normal(a.mean, a.std)
    torch.testing.assert_close(a.log_density(x), normal.log_prob(x).flatten(1).sum(1))
    torch.testing.assert_close(a.kl(b), kl_divergence(normal, Normal(b.mean, b.std)).flatten(1).sum(1))
    standard = DiagonalGaussian(torch.zeros_like(a.mean), torch.zeros_like(a.mean))
    torch.testing.assert_close(a.kl(), a.kl(standard))
    torch.testing.assert_close(a.kl(a), torch.zeros(3, dtype=torch.float64))


def test_the_kl_is_the_mean_of_log_ratios_over_its_samples(random: Callable) -> None:
    a, b = (DiagonalGaussian(random(1, 3), random(1, 3) * 0.3) for _ in range(2))
    noise = random(200_000, 3)
    wide = DiagonalGaussian(a.mean.expand(len(noise), 3), a.log_variance.expand(len(noise), 3))
    x = wide.sample(noise)
    ratios = wide.log_density(x) - DiagonalGaussian(b.mean.expand_as(x), b.log_variance.expand_as(x)).log_density(x)
    assert abs(ratios.mean() - a.kl(b)) < 5 * ratios.std() / len(noise) ** 0.5
    torch.testing.assert_close(torch.cov(x.T), torch.diag(a.std[0] ** 2), rtol=0, atol=0.03)


def test_a_sample_is_its_noise_and_extreme_variances_stay_finite(random: Callable, gaussian: DiagonalGaussian) -> None:
    a = gaussian
    noise = random(*a.mean.shape)
    assert torch.equal(a.sample(noise), a.sample(noise))
    torch.testing.assert_close(a.sample(noise)[1:2], DiagonalGaussian(a.mean[1:2], a.log_variance[1:2]).sample(noise[1:2]))
    assert torch.equal(a.sample(torch.zeros_like(noise)), a.mean)
    with pytest.raises(ValueError, match=r"noise of \[1, 4, 2, 5\] makes no sample of \[3, 4, 2, 5\]"):
        a.sample(noise[:1])
    extreme = DiagonalGaussian.of(torch.tensor([[0.0, 0.0, 1e30, -1e30]]))
    assert extreme.log_variance.tolist() == [[20.0, -30.0]] and extreme.kl().isfinite().all()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_codes_are_smaller_by_the_factor_and_do_not_depend_on_the_batch(dims: int, random: Callable, trained: Callable) -> None:
    model = trained(Autoencoder(replace(tiny_autoencoder(dims=dims), widths=(16, 24, 32))))
    x, noise = random(3, 3, *(4, 8, 12)[:dims]), random(3, 4, *(1, 2, 3)[:dims])
    found = model.encode(x)
    assert found.mean.shape == found.log_variance.shape == noise.shape
    grids = model.decode(found.sample(noise))
    assert grids.shape == x.shape
    torch.testing.assert_close(model.decode(model.encode(x[1:2]).sample(noise[1:2])), grids[1:2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2])
def test_over_a_grid_that_is_constant_along_a_further_axis_the_autoencoder_of_more_dimensions_is_the_same(
    dims: int, random: Callable, trained: Callable, extended: Callable
) -> None:
    flat, deep = (trained(Autoencoder(tiny_autoencoder(dims=d))) for d in (dims, dims + 1))
    extended(flat, deep)
    x = random(2, 3, *(8, 6)[:dims])
    expected, found = flat.encode(x), deep.encode(x.unsqueeze(2).expand(-1, -1, 4, *x.shape[2:]))
    torch.testing.assert_close(found.mean, expected.mean.unsqueeze(2).expand_as(found.mean), rtol=1e-9, atol=1e-11)
    decoded = deep.decode(found.mean)
    torch.testing.assert_close(decoded, flat.decode(expected.mean).unsqueeze(2).expand_as(decoded), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scale", [(0.5, 2.0, 3.0, 0.1), 0.18215])
def test_latents_are_scaled_codes_and_back(scale: float | tuple[float, ...], random: Callable, trained: Callable) -> None:
    shift = (1.0, -2.0, 0.0, 0.5)
    model = trained(Autoencoder(replace(tiny_autoencoder(), scale=scale, shift=shift)))
    x, noise = random(2, 3, 4, 6), random(2, 4, 2, 3)
    code = model.encode(x).sample(noise)
    by_channel = torch.tensor(scale, dtype=torch.float64).expand(4).reshape(4, 1, 1)
    expected = (code - torch.tensor(shift, dtype=torch.float64).reshape(4, 1, 1)) * by_channel
    torch.testing.assert_close(model.latents(x, noise), expected)
    torch.testing.assert_close(model.latents(x), model.latents(x, torch.zeros_like(noise)))
    torch.testing.assert_close(model.grids(expected), model.decode(code))


def test_measured_latents_have_mean_0_and_variance_1(random: Callable, trained: Callable) -> None:
    model = trained(Autoencoder(tiny_autoencoder()))
    x = random(5, 3, 8, 8)
    with torch.no_grad():
        model.config = measured(model.config, model.encode(x).mean)
        latents = model.latents(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(latents.var(1, correction=0), torch.ones(4, dtype=torch.float64))


def test_the_preset_is_the_published_size() -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Autoencoder(sd_autoencoder()).parameters())
    assert round(count / 1e6, 2) == 83.65


def test_what_does_not_fit_is_refused() -> None:
    model = Autoencoder(tiny_autoencoder())
    with pytest.raises(ValueError, match="whose sizes 2 divides, not 8 × 7: pad or crop them"):
        model.encode(torch.zeros(1, 3, 8, 7))
    with pytest.raises(ValueError, match=r"takes grids \[n, 4, h, w\], not \[1, 3, 8, 8\]"):
        model.decode(torch.zeros(1, 3, 8, 8))
    for options, message in (
        ({"widths": (16, 20)}, "8 groups do not divide a width of 20"),
        ({"widths": ()}, "no levels"),
        ({"latents": 0}, "no autoencoder has such sizes"),
        ({"scale": (1.0, 2.0)}, "scale has 2 numbers for 4 channels"),
        ({"scale": 0.0}, "a scale of 0 leaves nothing"),
        ({"dims": 5}, "1, 2 or 3 dimensions, not 5"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(tiny_autoencoder(), **options)
    assert isinstance(AutoencoderConfig().factor, int)


def test_a_folded_autoencoder_is_the_plain_one_of_unshuffled_pictures(random: Callable, trained: Callable) -> None:
    plain = AutoencoderConfig(channels=12, widths=(8, 16), blocks=1, groups=4, attends=False)
    folded = replace(plain, channels=3, fold=2)
    assert folded.factor == 2 * plain.factor
    one, other = trained(Autoencoder(plain)), Autoencoder(folded).double().eval()
    other.load_state_dict(one.state_dict())
    x = random(2, 3, 8, 12)
    code = one.encode(F.pixel_unshuffle(x, 2)).mean
    assert torch.equal(other.encode(x).mean, code)
    assert torch.equal(other.decode(code), F.pixel_shuffle(one.decode(code), 2))
