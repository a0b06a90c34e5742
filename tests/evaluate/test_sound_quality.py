"""Sound quality: closed forms, invariances, torchmetrics and scipy as oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from tectum.errors import EvaluationError
from tectum.evaluate.answers import PLAIN
from tectum.evaluate.measurement import compare, merge
from tectum.evaluate.sound_quality import hallucinated_words_per_hour, mel_distance, si_sdr, si_snr, speaker_similarity
from tectum.media.mel import MelSpec, hifigan_mel, vocos_mel, whisper_mel


def noise(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def decibels(measure, reference: torch.Tensor, estimate: torch.Tensor) -> float:  # type: ignore[no-untyped-def]
    return measure({"a": reference}, {"a": estimate}).score().value


@given(level=st.floats(-60, 60), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_noise_at_right_angles_gives_its_level_at_any_scale(level: float, scale: float, seed: int) -> None:
    s, other = noise(400, seed), noise(400, seed + 1)
    other -= (other @ s) / (s @ s) * s
    mixed = s + other * (s.norm() / other.norm()) * 10 ** (-level / 20)
    assert decibels(si_sdr, s, scale * mixed) == pytest.approx(level, abs=1e-6)


def test_si_snr_ignores_an_offset_and_si_sdr_does_not() -> None:
    s, e = noise(500, 0), noise(500, 0) + 0.3 * noise(500, 1)
    assert decibels(si_snr, s + 4, e - 7) == pytest.approx(decibels(si_snr, s, e), abs=1e-9)
    assert decibels(si_sdr, s, e - 7) < decibels(si_sdr, s, e) - 5


def test_torchmetrics_gives_the_same_ratios() -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio")
    for seed in range(5):
        s, e = noise(800, seed) + 0.1, noise(800, seed) + noise(800, seed + 50)
        assert decibels(si_sdr, s, e) == pytest.approx(audio.scale_invariant_signal_distortion_ratio(e, s).item(), abs=1e-9)
        assert decibels(si_snr, s, e) == pytest.approx(audio.scale_invariant_signal_noise_ratio(e, s).item(), abs=1e-9)


def test_the_ends_are_cut_and_named() -> None:
    s = noise(100, 0)
    assert decibels(si_sdr, s, 3 * s) == decibels(si_snr, s, 3 * s - 1) == 100
    assert decibels(si_sdr, s, torch.zeros(100)) == decibels(si_snr, s, torch.full((100,), 0.1)) == -100
    assert si_sdr({"a": s}, {"a": s}, limit=60).score().value == 60
    assert si_sdr({"a": s}, {"a": s}, limit=60).passport.settings == {"limit-db": 60}


@pytest.mark.parametrize(
    ("reference", "estimate", "message"),
    [
        (torch.ones(4), torch.ones(5), r"'a' has the shapes \(4,\) and \(5,\)"),
        (torch.ones(1, 4), torch.ones(1, 4), "two mono sounds"),
        (torch.ones(0), torch.ones(0), "two mono sounds"),
        (torch.ones(4), torch.tensor([1, math.nan, 1, 1]), "'a' has samples that are not finite"),
        (torch.zeros(4), torch.ones(4), "the reference of 'a' is silent"),
    ],
)
def test_sounds_that_cannot_be_compared(reference: torch.Tensor, estimate: torch.Tensor, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        si_sdr({"a": reference}, {"a": estimate})
    with pytest.raises(EvaluationError, match="reference of 'a' is silent"):
        si_snr({"a": torch.full((7,), 0.1)}, {"a": noise(7, 0)})
    with pytest.raises(EvaluationError, match="si-sdr: 1 of 1 items have no prediction"):
        si_sdr({"a": torch.ones(3)}, {})


@pytest.mark.parametrize("mel", [vocos_mel(), hifigan_mel(), whisper_mel()])
def test_the_mel_distance_is_zero_for_the_same_and_symmetric(mel: MelSpec) -> None:
    x, y = noise(9000, 0), noise(9000, 1)
    assert mel_distance({"a": x}, {"a": x}, mel).score().value == 0
    forth, back = mel_distance({"a": x}, {"a": y}, mel), mel_distance({"a": y}, {"a": x}, mel)
    assert forth.score().value == back.score().value > 0


def test_a_gain_moves_a_log_mel_by_its_logarithm() -> None:
    x = noise(24_000, 0)
    assert mel_distance({"a": x}, {"a": 0.5 * x}, vocos_mel()).score().value == pytest.approx(math.log(2), rel=1e-3)
    decibel = MelSpec(name="db", rate=16_000, n_fft=512, win=512, hop=128, bins=40, compression="decibel")
    assert mel_distance({"a": x}, {"a": 10 * x}, decibel).score().value == pytest.approx(20, rel=1e-6)


def test_the_mel_distance_is_over_all_frames_and_names_the_dialect() -> None:
    x, y = {"a": noise(9000, 0), "b": noise(30_000, 1)}, {"a": noise(9000, 2), "b": noise(30_000, 3)}
    whole = mel_distance(x, y, vocos_mel())
    parts = [mel_distance({k: x[k]}, {k: y[k]}, vocos_mel()) for k in ("b", "a")]
    assert merge(parts).score() == whole.score()
    frames = {k: vocos_mel().frames(len(x[k])) for k in x}
    single = whole.values()
    assert whole.score().value == pytest.approx(sum(single[k] * frames[k] for k in x) / sum(frames.values()))
    assert whole.passport.settings["mel-f_max"] == 12_000
    with pytest.raises(EvaluationError, match="mel-hop is 256 in one"):
        compare(whole, mel_distance(x, y, whisper_mel()))
    with pytest.raises(EvaluationError, match="'a' cannot be measured: a sound of 5 samples is too short"):
        mel_distance({"a": torch.ones(5)}, {"a": torch.ones(5)}, vocos_mel())


def test_hallucinated_words_are_per_hour_of_all_sound() -> None:
    heard, seconds = {"a": "you you", "b": ".", "c": ""}, {"a": 900.0, "b": 600.0, "c": 300.0}
    raw, plain = hallucinated_words_per_hour(heard, seconds), hallucinated_words_per_hour(heard, seconds, normalizer=PLAIN)
    assert (raw.score().value, plain.score().value) == pytest.approx((6, 4))
    assert math.isnan(hallucinated_words_per_hour({}, {}).score().value)
    for length in (0, -1, math.nan, math.inf):
        with pytest.raises(EvaluationError, match="give a positive length"):
            hallucinated_words_per_hour({"a": ""}, {"a": length})


def voices(n: int, d: int, speakers: int, seed: int, apart: float = 1.0) -> tuple[list[str], np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    who = generator.integers(0, speakers, n)
    vectors = apart * generator.normal(size=(speakers, d))[who] + generator.normal(size=(n, d))
    return [f"u{i}" for i in range(n)], vectors, [f"s{i}" for i in who]


def pair_scores(vectors: np.ndarray, speakers: list[str]) -> tuple[np.ndarray, np.ndarray]:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(len(units)) for j in range(i)]
    same = np.array([units[i] @ units[j] for i, j in pairs if speakers[i] == speakers[j]]).round(9)
    other = np.array([units[i] @ units[j] for i, j in pairs if speakers[i] != speakers[j]]).round(9)
    return same, other


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_mann_whitney_statistic_and_eer_lies_on_the_roc(seed: int) -> None:
    ids, vectors, speakers = voices(25, 6, 4, seed)
    same, other = pair_scores(vectors, speakers)
    rates = {name: one.score(resamples=0).value for name, one in speaker_similarity(ids, vectors, speakers).items()}
    assert rates["speaker-auc"] == pytest.approx(mannwhitneyu(same, other).statistic / (len(same) * len(other)))
    thresholds = np.concatenate(([-2.0], np.unique(np.concatenate((same, other)))))
    alarms = np.array([(other > t).mean() for t in thresholds])
    misses = np.array([(same <= t).mean() for t in thresholds])
    below, above = (misses - alarms <= 0).nonzero()[0][-1], (misses - alarms >= 0).nonzero()[0][0]
    low, high = max(misses[below], alarms[above]), min(misses[above], alarms[below])
    assert low - 1e-12 <= rates["speaker-eer"] <= high + 1e-12


def test_ties_count_half_and_chance_is_a_half() -> None:
    ids, speakers = list("abcd"), ["x", "x", "y", "y"]
    rates = speaker_similarity(ids, np.ones((4, 3)), speakers)
    assert [rates[name].score(resamples=0).value for name in rates] == [0.5, 0.5]


def test_speakers_are_told_apart_whatever_the_order_scale_or_shard() -> None:
    ids, vectors, speakers = voices(24, 5, 3, 1)
    whole = speaker_similarity(ids, vectors, speakers)
    order = np.random.default_rng(0).permutation(24)
    mixed = speaker_similarity([ids[i] for i in order], vectors[order] * np.arange(1, 25)[:, None], [speakers[i] for i in order])
    shards = [speaker_similarity(ids[at], vectors[at], speakers[at]) for at in (slice(10, 24), slice(10))]
    for name in whole:
        assert merge([shard[name] for shard in shards]).score(resamples=50) == whole[name].score(resamples=50)
        assert mixed[name].score(resamples=50).value == pytest.approx(whole[name].score(resamples=50).value, abs=1e-12)


def test_the_interval_resamples_speakers_and_better_embeddings_win() -> None:
    ids, vectors, speakers = voices(60, 8, 10, 0, apart=0.4)
    _, sharp, _ = voices(60, 8, 10, 0, apart=3.0)
    old, new = (speaker_similarity(ids, v, speakers)["speaker-auc"] for v in (vectors, sharp))
    score = old.score(resamples=200)
    assert score.interval is not None and score.interval[0] < score.value < score.interval[1]
    assert compare(new, old, resamples=200).p < 0.05


def test_one_voice_alone_has_no_rate_and_bad_vectors_are_refused() -> None:
    assert math.isnan(speaker_similarity(["a", "b"], np.eye(2), ["x", "x"])["speaker-auc"].score().value)
    assert math.isnan(speaker_similarity(["a", "b"], np.eye(2), ["x", "y"])["speaker-eer"].score().value)
    with pytest.raises(EvaluationError, match=r"need embeddings \[2, d\], not \(2,\)"):
        speaker_similarity(["a", "b"], np.ones(2), ["x", "y"])
    for wrong in (0.0, np.nan, np.inf):
        with pytest.raises(EvaluationError, match="embedding of 'b' is zero or not finite"):
            speaker_similarity(["a", "b"], np.array([[1.0], [wrong]]), ["x", "y"])
