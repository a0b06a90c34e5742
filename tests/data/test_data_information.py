"""The world of known information against exact enumeration of its joint distribution, and against what it draws."""

import math
from collections import Counter
from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.data.information import Fact, View, World
from tectum.errors import ConfigError

NAMES = ("image", "sound", "touch")
FACTS = st.builds(Fact, st.sets(st.sampled_from(NAMES), min_size=1).map(tuple), st.booleans())


def make(facts: list[Fact], flips: tuple[float, ...]) -> World:
    return World(views={name: View(dim=12, flip=flip) for name, flip in zip(NAMES, flips, strict=True)}, facts=tuple(facts))


WORLDS = st.builds(make, st.lists(FACTS, min_size=1, max_size=2), st.tuples(*[st.sampled_from([0.0, 0.1, 0.3, 0.5])] * 3))


def joint(world: World, *, joined_shares: bool = True) -> dict[tuple, float]:
    """P(label, what each view shows), by going through all bits, shares and errors."""
    spaces = []
    for fact in world.facts:
        cells = []
        for bit in (0, 1):
            shares = product((0, 1), repeat=len(fact.views)) if fact.split else [(bit,) * len(fact.views)]
            fitting = [s for s in shares if not fact.split or not joined_shares or sum(s) % 2 == bit]
            for share in fitting:
                for errors in product((0, 1), repeat=len(fact.views)):
                    p = 0.5 / len(fitting)
                    for name, error in zip(fact.views, errors, strict=True):
                        p *= world.views[name].flip if error else 1 - world.views[name].flip
                    shown = {name: s ^ e for name, s, e in zip(fact.views, share, errors, strict=True)}
                    cells.append((bit, shown, p))
        spaces.append(cells)
    found: Counter[tuple] = Counter()
    for cells in product(*spaces):
        label = tuple(bit for bit, _, _ in cells)
        views = tuple(tuple(shown.get(name) for _, shown, _ in cells) for name in world.views)
        found[(label, *views)] += math.prod(p for _, _, p in cells)
    return dict(found)


def marginal(table: dict[tuple, float], places: tuple[int, ...]) -> Counter[tuple]:
    found: Counter[tuple] = Counter()
    for outcome, p in table.items():
        found[tuple(outcome[place] for place in places)] += p
    return found


def entropy(table: dict[tuple, float], *places: int) -> float:
    return -sum(p * math.log2(p) for p in marginal(table, places).values() if p > 0)


def information(table: dict[tuple, float], *views: int) -> float:
    return entropy(table, 0) + entropy(table, *views) - entropy(table, 0, *views)


@settings(max_examples=50)
@given(world=WORLDS)
def test_information_and_best_accuracy_are_those_of_the_whole_joint_distribution(world: World) -> None:
    table = joint(world)
    for size in (1, 2, 3):
        for some in combinations(range(3), size):
            names, places = [NAMES[i] for i in some], tuple(i + 1 for i in some)
            assert world.information(names) == pytest.approx(information(table, *places), abs=1e-9)
            guesses: dict[tuple, float] = {}
            for (_, *seen), p in marginal(table, (0, *places)).items():
                guesses[tuple(seen)] = max(guesses.get(tuple(seen), 0.0), p)
            assert world.accuracy(names) == pytest.approx(sum(guesses.values()), abs=1e-9)
    assert world.information() == world.information(NAMES) and world.accuracy() == world.accuracy(NAMES)


@settings(max_examples=50)
@given(world=WORLDS)
def test_the_decomposition_adds_up_as_williams_and_beer_demand(world: World) -> None:
    table = joint(world)
    redundant, unique, synergistic = world.decompose("image", "sound")
    assert min(redundant, *unique, synergistic) >= -1e-12
    assert redundant + unique[0] == pytest.approx(information(table, 1), abs=1e-9)
    assert redundant + unique[1] == pytest.approx(information(table, 2), abs=1e-9)
    assert redundant + sum(unique) + synergistic == pytest.approx(information(table, 1, 2), abs=1e-9)
    assert redundant + unique[0] + unique[1] + synergistic == pytest.approx(world.information(["image", "sound"]))


def test_the_synergy_is_what_no_joint_distribution_with_the_same_pairs_can_do_without() -> None:
    """Bertschinger et al.: the least I(label; both) over all joints with the given (label, view) pairs leaves no synergy.

    Cutting the tie between shares keeps those pairs and reaches redundant + unique, which is a lower bound by the chain rule:
    the bits of redundant and unique facts can be read from single views under every such joint.
    """
    facts = (Fact(("image", "sound")), Fact(("image",)), Fact(("sound",)), Fact(("image", "sound"), split=True))
    world = World(views={"image": View(dim=4), "sound": View(dim=4)}, facts=facts)
    true, cut = joint(world), joint(world, joined_shares=False)
    for view in (1, 2):
        same, other = marginal(true, (0, view)), marginal(cut, (0, view))
        assert same.keys() == other.keys() and all(same[key] == pytest.approx(other[key]) for key in same)
    redundant, unique, synergistic = world.decompose("image", "sound")
    assert (redundant, unique, synergistic) == (1.0, (1.0, 1.0), 1.0)
    assert information(cut, 1, 2) == pytest.approx(redundant + sum(unique))
    assert information(true, 1, 2) == pytest.approx(redundant + sum(unique) + synergistic)


def test_of_two_noisy_copies_the_worse_has_nothing_of_its_own() -> None:
    world = make([Fact(("image", "sound"))], (0.1, 0.3, 0.0))
    noise = {p: -p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in (0.1, 0.3)}
    redundant, unique, synergistic = world.decompose("image", "sound")
    assert redundant == pytest.approx(1 - noise[0.3])
    assert unique == (pytest.approx(noise[0.3] - noise[0.1]), 0.0)
    assert synergistic == pytest.approx(world.information(["image", "sound"]) - (1 - noise[0.1])) and synergistic > 0
    assert world.accuracy(["image", "sound"]) == pytest.approx(0.9)


def read(world: World, name: str, x: torch.Tensor, gains: list[float]) -> torch.Tensor:
    """The bits that a view shows [n, held], by undoing its directions."""
    parity = world.views[name].parity
    cells = (x @ world._directions(name).T)[:, : parity * len(gains)].unflatten(1, (len(gains), parity))
    torch.testing.assert_close(cells.abs(), torch.tensor(gains)[:, None].expand_as(cells), atol=1e-4, rtol=0)
    return (cells.prod(-1) > 0).long()


@pytest.mark.parametrize("parity", [1, 2, 3])
def test_samples_show_the_bits_that_the_world_says(parity: int) -> None:
    views = {"image": View(dim=16, parity=parity, clutter=2.0), "sound": View(dim=20, flip=0.2, parity=parity)}
    facts = (Fact(("image", "sound"), gain=0.5), Fact(("sound",)), Fact(("sound", "image"), split=True, gain=2.0))
    world, n = World(views=views, facts=facts), 20_000
    sample = world.sample(n, seed=1)
    assert sample.bits.shape == (n, 3) and {name: tuple(x.shape) for name, x in sample.views.items()} == {
        "image": (n, 16),
        "sound": (n, 20),
    }
    image = read(world, "image", sample.views["image"], [0.5, 2.0])
    sound = read(world, "sound", sample.views["sound"], [0.5, 1.0, 2.0])
    assert torch.equal(image[:, 0], sample.bits[:, 0])
    close = {"atol": 5 * (0.25 / n) ** 0.5, "rtol": 0}
    right = torch.stack(
        (
            (sound[:, :2] == sample.bits[:, :2]).float().mean(0)[0],
            ((image[:, 1] ^ sound[:, 2]) == sample.bits[:, 2]).float().mean(),
        )
    )
    torch.testing.assert_close(right, torch.tensor([0.8, 0.8]), **close)
    torch.testing.assert_close((image[:, 1] == sample.bits[:, 2]).float().mean(), torch.tensor(0.5), **close)
    spread = (sample.views["image"] @ world._directions("image").T)[:, 2 * parity :]
    torch.testing.assert_close(spread.std(0), torch.full((16 - 2 * parity,), 2.0), atol=0.1, rtol=0)


def test_samples_are_a_function_of_the_seed_and_labels_of_the_bits() -> None:
    world = make([Fact(("image",)), Fact(("sound", "touch"), split=True), Fact(("touch",))], (0.1, 0.0, 0.0))
    one, same, other = world.sample(50, 3), world.sample(50, 3), world.sample(50, 4)
    assert torch.equal(one.bits, same.bits) and all(torch.equal(one.views[name], same.views[name]) for name in NAMES)
    assert not torch.equal(one.views["image"], other.views["image"])
    assert one.labels.tolist() == [a + 2 * b + 4 * c for a, b, c in one.bits.tolist()]


def test_worlds_that_make_no_sense_are_refused() -> None:
    views = {"image": View(dim=3, parity=2)}
    for facts in ((Fact(()),), (Fact(("smell",)),), (Fact(("image", "image")),)):
        with pytest.raises(ConfigError, match="name one or more"):
            World(views=views, facts=facts)
    world = World(views=views, facts=(Fact(("image",)),))
    for ask in (
        lambda: world.information(["smell"]),
        lambda: world.accuracy(["smell"]),
        lambda: world.decompose("image", "smell"),
    ):
        with pytest.raises(ConfigError, match=r"the views \['image'\], not \["):
            ask()
    with pytest.raises(ConfigError, match="dim = 3 is too short"):
        World(views=views, facts=(Fact(("image",)), Fact(("image",))))
    with pytest.raises(ConfigError, match=r"flip = 0\.7"):
        View(dim=3, flip=0.7)
    with pytest.raises(ConfigError, match="parity = 0"):
        View(dim=3, parity=0)
