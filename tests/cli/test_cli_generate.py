"""`tectum generate`, with a small random model: files, sizes, numbers, edits and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tectum.cli.main import main
from tectum.hub.generators import save_text_to_image
from tectum.media.text import train_bpe
from tectum.models.text_to_image import TextToImage, tiny


@pytest.fixture
def model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    tokenizer = train_bpe(["a red apple", "a green pear"] * 2, vocab_size=300, context=8)
    made = TextToImage(tiny(tokenizer.vocab_size), tokenizer).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_text_to_image(made, tmp_path / "model", dtype=torch.float32)
    return str(tmp_path / "model")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_one_picture_a_sheet_and_each_alone_are_the_same_pictures(model: str, tmp_path: Path) -> None:
    common = ["--model", model, "--steps", "3", "--seed", "5"]
    assert main(["generate", "a red apple", "-o", str(tmp_path / "one.png"), *common]) == 0
    assert main(["generate", "a red apple", "-o", str(tmp_path / "all.png"), "-n", "5", "--each", *common]) == 0
    assert pixels(tmp_path / "one.png").shape == (16, 16, 3)
    assert pixels(tmp_path / "all.png").shape == (34, 52, 3)
    singles = [pixels(tmp_path / f"all-{number}.png") for number in range(5)]
    # Batches differ in the order of their sums.
    assert np.abs(singles[0] - pixels(tmp_path / "one.png")).max() <= 1
    assert np.array_equal(pixels(tmp_path / "all.png")[18:, 18:34], singles[4])
    assert np.abs(singles[0] - singles[1]).mean() > 1


def test_a_gif_shows_every_step_and_ends_with_the_picture(model: str, tmp_path: Path) -> None:
    out = tmp_path / "apple.png"
    assert main(["generate", "a red apple", "-o", str(out), "--model", model, "--steps", "4", "--gif"]) == 0
    with Image.open(out.with_suffix(".gif")) as gif:
        # The last preview may be the picture already, and Pillow makes one of equal frames.
        assert 4 <= gif.n_frames <= 5 and gif.info["loop"] == 0
        gif.seek(gif.n_frames - 1)
        last = np.asarray(gif.convert("RGB")).astype(int)
    assert np.abs(last - pixels(out)).mean() < 8  # 255 colours


def test_a_picture_to_begin_from_and_a_mask(model: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "from.png")
    hole = np.zeros((16, 16), np.uint8)
    hole[4:9, 4:9] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    edit = ["--from", str(tmp_path / "from.png"), "--mask", str(tmp_path / "mask.png"), "--strength", "1"]
    assert main(["generate", "a red apple", "-o", str(out), "--model", model, "--steps", "3", *edit]) == 0
    made, before = pixels(out), pixels(tmp_path / "from.png")
    assert np.array_equal(made[hole == 0], before[hole == 0])
    assert not np.array_equal(made[hole > 0], before[hole > 0])


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["generate", "x", "-o", "x.bmp", "--model", "m"], "not the name of a picture"),
        (["generate", "x", "-o", "nowhere/x.png", "--model", "m"], "is no folder"),
        (["generate", " ", "-o", "x.png", "--model", "m"], "is empty"),
        (["generate", "x", "-o", "x.png", "--model", "m", "--mask", "m.png"], "--from"),
        (["generate", "x", "-o", "x.png", "--model", "nothing"], "no text-to-image model"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mask_without_a_hole_is_refused(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    picture = str(tmp_path / "black.png")
    assert main(["generate", "x", "-o", str(tmp_path / "x.png"), "--model", model, "--from", picture, "--mask", picture]) == 2
    assert "nothing white" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_folder_of_diffusers_paints_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diffusers = pytest.importorskip("diffusers")
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4, patch_size=2
    )
    sides = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, **sides)
    diffusers.DiTPipeline(transformer=network, vae=vae, scheduler=diffusers.DDIMScheduler()).save_pretrained(tmp_path / "dit")
    common = ["-o", str(tmp_path / "x.png"), "--model", str(tmp_path / "dit"), "--steps", "2"]
    assert main(["generate", "207", *common]) == 0
    assert pixels(tmp_path / "x.png").shape == (8, 8, 3)
    capsys.readouterr()
    for text in ("a cat", "1000"):
        assert main(["generate", text, *common]) == 2
        assert "0 to 999" in capsys.readouterr().err


def test_info_tells_of_a_painter(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", model, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    size = sum(file.stat().st_size for file in Path(model).iterdir())
    assert (facts["pixels"], facts["bytes"]) == ([16, 16], size) and 4 * facts["parameters"] < size
