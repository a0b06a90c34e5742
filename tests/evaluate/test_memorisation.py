"""The check for copies: planted ones are found, unseen items are not, and the null is what it claims to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.features import Features
from tectum.evaluate.measurement import compare
from tectum.evaluate.memorisation import memorisation


def cloud(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_planted_copies_are_found_and_named() -> None:
    training = Features.of(cloud(300, 6, 0), ids=[f"photo {i}.jpg" for i in range(300)])
    near = training.vectors[[7, 11]].numpy() + 1e-3
    copies = [training.ids[7], training.ids[11]]
    generated = Features.of(np.concatenate([cloud(50, 6, 1), near]), ids=[*(f"g{i:02d}" for i in range(50)), "x", "y"])
    found = memorisation(training, generated)
    worst = found.nearest_first()[:2]
    assert {found.ids[i] for i in worst} == {"x", "y"}
    assert {found.neighbours[i][0] for i in worst} == set(copies)
    assert all(found.ratio[i] < 0.01 and found.p[i] == pytest.approx(1 / 301) for i in worst)
    assert found.distances.shape == (52, 5)
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_copies_score_1_and_unseen_items_a_half() -> None:
    training, held_out = Features.of(cloud(400, 4, 0)), Features.of(cloud(200, 4, 1))
    copied = memorisation(training, Features.of(training.vectors[:100]), held_out=held_out).copying.score()
    assert copied.value == 1
    for null in (held_out, None):
        fresh = memorisation(training, Features.of(cloud(300, 4, 2)), held_out=null).copying.score()
        assert fresh.value == pytest.approx(0.5, abs=0.08)
        assert fresh.interval is not None
    noise = memorisation(training, Features.of(30 + cloud(100, 4, 3)), held_out=held_out).copying.score()
    assert noise.value == 0


@pytest.mark.parametrize("held", [True, False])
def test_p_values_of_unseen_items_are_uniform(held: bool) -> None:
    """Over many training sets, an unseen item is as near as any of the null items, whatever the distribution."""
    drawn = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        training, generated = Features.of(random.exponential(size=(40, 3))), Features.of(random.exponential(size=(1, 3)))
        held_out = Features.of(random.exponential(size=(39, 3))) if held else None
        drawn.append(memorisation(training, generated, held_out=held_out, k=1).p[0])
    uniform = scipy.stats.randint(1, 41 if held else 42)
    observed = np.bincount((np.array(drawn) * (40 if held else 41)).round().astype(int), minlength=42)
    cumulated = observed.cumsum() / 400
    reach = 1.95 / math.sqrt(400)  # Kolmogorov-Smirnov at one in a thousand
    assert np.abs(cumulated - uniform.cdf(np.arange(42))).max() < reach


def test_the_score_is_the_mann_whitney_statistic() -> None:
    training, held_out, generated = cloud(100, 3, 0), cloud(60, 3, 1), 0.8 * cloud(40, 3, 2)
    found = memorisation(*map(Features.of, (training, generated)), held_out=Features.of(held_out))

    def to_nearest(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - training[None], axis=-1).min(1)

    u = scipy.stats.mannwhitneyu(to_nearest(held_out), to_nearest(generated)).statistic
    assert found.copying.score().value == pytest.approx(u / (60 * 40), rel=1e-12)
    np.testing.assert_allclose(found.distances[:, 0], to_nearest(generated))
    np.testing.assert_allclose(found.ratio, to_nearest(generated) / np.sort(to_nearest(held_out))[29])


def test_ties_count_half() -> None:
    training = Features.of([[0.0], [10.0], [20.0]])
    found = memorisation(training, Features.of([[1.0], [2.0], [5.0]]), held_out=Features.of([[2.0], [12.0]]), k=1)
    assert found.copying.values() == {"000000000": 1.0, "000000001": 0.5, "000000002": 0.0}
    assert found.p.tolist() == [1 / 3, 1, 1]


def test_order_changes_nothing_and_two_generators_can_be_compared() -> None:
    training = Features.of(cloud(100, 3, 0))
    y, ids = cloud(40, 3, 1), [f"{i}.png" for i in range(40)]
    order = np.random.default_rng(0).permutation(40)
    a = memorisation(training, Features.of(y, ids=ids))
    b = memorisation(training, Features.of(y[order], ids=[ids[i] for i in order]))
    assert (a.ids, a.neighbours, a.copying.score()) == (b.ids, b.neighbours, b.copying.score())
    nearer = Features.of(training.vectors[:40] + 0.01, ids=ids)
    assert compare(memorisation(training, nearer).copying, a.copying).interval[0] > 0  # type: ignore[index]


def test_what_cannot_be_compared_is_told_in_a_sentence() -> None:
    some, one, none = (Features.of(np.arange(2.0 * n).reshape(n, 2)) for n in (5, 1, 0))
    with pytest.raises(EvaluationError, match="1 training, 5 generated and 1 null items with k = 1"):
        memorisation(one, some, k=1)
    with pytest.raises(EvaluationError, match="5 training, 0 generated"):
        memorisation(some, none)
    with pytest.raises(EvaluationError, match="with k = 6"):
        memorisation(some, one, k=6)
    with pytest.raises(EvaluationError, match="2 and of 3 numbers"):
        memorisation(some, Features.of(np.ones((2, 3))))
    with pytest.raises(PassportError, match="filter is a in one and nothing in the other"):
        memorisation(Features.of(np.ones((5, 2)), settings={"filter": "a"}), some)
    with pytest.raises(EvaluationError, match="most null items equal a training item"):
        memorisation(Features.of(np.ones((5, 2))), some)
    assert memorisation(some, one).neighbours == (some.ids[:1] + some.ids[1:5],)
