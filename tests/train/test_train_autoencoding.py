"""Training an autoencoder: the perceptual distance, the adversary and who learns from what."""

import pytest
import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.nn.autoencoder import Autoencoder, AutoencoderConfig
from tectum.train.autoencoding import (
    AutoencodingWeights,
    PatchAdversary,
    adaptive_weight,
    autoencoding_loss,
    hinge_loss,
    perceptual_distance,
)

CONFIG = AutoencoderConfig(widths=(8, 16), blocks=1, groups=4, latents=2, attends=False)


def fresh(seed: int = 0) -> tuple[Autoencoder, PatchAdversary, Tensor, Tensor]:
    torch.manual_seed(seed)
    grids, noise = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 2, 8, 8)
    return Autoencoder(CONFIG), PatchAdversary(3, width=8, levels=1), grids, noise


def layers(x: Tensor) -> list[Tensor]:
    torch.manual_seed(3)
    first = nn.Conv2d(3, 5, 3)(x).relu()
    return [first, nn.Conv2d(5, 7, 3)(first).relu()]


def test_the_perceptual_distance_is_a_squared_angle_averaged_over_places_and_layers() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 3, 3, 8, 8)
    by_hand = torch.zeros(3)
    for left, right in zip(layers(a), layers(b), strict=True):
        cosine = torch.cosine_similarity(left, right, dim=1, eps=1e-12)
        lengths = (left.norm(dim=1) > 0).float(), (right.norm(dim=1) > 0).float()
        by_hand += (lengths[0] + lengths[1] - 2 * cosine).mean((1, 2)) / 2
    torch.testing.assert_close(perceptual_distance(layers, a, b), by_hand, rtol=1e-4, atol=1e-5)
    assert perceptual_distance(layers, a, a).abs().max() == 0


def test_the_adaptive_weight_makes_the_two_gradients_equal() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    a, b = 3 * weight.sum(), 50 * weight.sum()
    torch.testing.assert_close(adaptive_weight(a, b, weight), torch.tensor(3 / 50), rtol=1e-4, atol=0)


@pytest.mark.parametrize("real, made, loss", [(1.0, -1.0, 0.0), (5.0, -5.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 1.0, 2.0)])
def test_the_hinge(real: float, made: float, loss: float) -> None:
    assert hinge_loss(torch.full((4,), real), torch.full((4,), made)) == loss


def test_the_adversary_learns_from_its_own_loss_alone() -> None:
    autoencoder, adversary, grids, noise = fresh()
    weights = AutoencodingWeights(perceptual=0, adversarial=0.5)
    total, _ = autoencoding_loss(autoencoder, grids, noise, weights, adversary=adversary)
    total.backward()
    got = [parameter.grad.clone() for parameter in adversary.parameters()]
    adversary.zero_grad()
    with torch.no_grad():
        made = autoencoder.decode(autoencoder.encode(grids).sample(noise))
    hinge_loss(adversary(grids), adversary(made)).backward()
    for mine, alone in zip(got, adversary.parameters(), strict=True):
        torch.testing.assert_close(mine, alone.grad)


def test_the_autoencoder_learns_from_the_verdict_but_not_from_the_adversarys_loss() -> None:
    autoencoder, adversary, grids, noise = fresh()
    weights = AutoencodingWeights(perceptual=0, kl=0, adversarial=0.5)
    autoencoding_loss(autoencoder, grids, noise, weights, adversary=adversary)[0].backward()
    got = [parameter.grad.clone() for parameter in autoencoder.parameters()]
    autoencoder.zero_grad()
    made = autoencoder.decode(autoencoder.encode(grids).sample(noise))
    error, fooled = (made - grids).abs().mean(), -adversary(made).mean()
    factor = adaptive_weight(error, fooled, autoencoder.decoder.conv_out.weight)
    (error + 0.5 * factor * fooled).backward()
    for mine, by_hand in zip(got, autoencoder.parameters(), strict=True):
        torch.testing.assert_close(mine, by_hand.grad, rtol=1e-4, atol=1e-6)


def test_an_adversary_sees_one_grid_at_a_time() -> None:
    _, adversary, grids, _ = fresh()
    torch.testing.assert_close(adversary(grids)[2:3], adversary(grids[2:3]), rtol=1e-4, atol=1e-5)


def test_some_steps_of_it_make_reconstructions_better() -> None:
    autoencoder, adversary, grids, noise = fresh()
    optimizer = torch.optim.AdamW([*autoencoder.parameters(), *adversary.parameters()], lr=3e-3)
    errors = []
    for _ in range(60):
        total, stats = autoencoding_loss(
            autoencoder, grids, noise, AutoencodingWeights(adversarial=0.1), features=layers, adversary=adversary
        )
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(float(stats["error"]))
    assert errors[-1] < 0.7 * errors[0]


def test_what_has_a_weight_must_be_there() -> None:
    autoencoder, _, grids, noise = fresh()
    with pytest.raises(ConfigError, match="perceptual=0"):
        autoencoding_loss(autoencoder, grids, noise, AutoencodingWeights())
    with pytest.raises(ConfigError, match="adversarial=0"):
        autoencoding_loss(autoencoder, grids, noise, AutoencodingWeights(perceptual=0, adversarial=1))
    with pytest.raises(ConfigError, match="0 or more"):
        AutoencodingWeights(kl=-1)
