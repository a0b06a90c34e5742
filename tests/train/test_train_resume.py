"""A run that is killed at any moment and started again ends in the same log and the same weights, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_task import CONFIG, SmallTask, results

from tectum.errors import CheckpointError, ConfigError
from tectum.train import checkpoint
from tectum.train.trainer import train

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


def killing(*arguments):
    script = Path(__file__).with_name("small_task.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, script, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


@forks
def test_killed_at_random_moments(tmp_path):
    assert killing(tmp_path, "random", 0) >= 2


@forks
def test_killed_before_every_operation_on_the_disk(tmp_path):
    assert killing(tmp_path, "disk") >= 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(SmallTask(), CONFIG, out, progress=False)


class Interrupted(SmallTask):
    """Presses Ctrl-C in the middle of some steps."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def loss(self, batch, step):
        if step in self.steps:
            signal.raise_signal(signal.SIGINT)
        return super().loss(batch, step)


@pytest.mark.parametrize("step", [0, 3, 4, 10])
def test_ctrl_c_saves_and_tells_how_to_continue(tmp_path, capsys, whole, step):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(step), CONFIG, tmp_path)
    assert f"stopped after step {step + 1} of 12, saved in {tmp_path}: run the same command again" in capsys.readouterr().out
    assert json.loads((tmp_path / f"checkpoints/step-{step + 1:08d}/state.json").read_text())["step"] == step + 1
    metrics = train(SmallTask(), CONFIG, tmp_path)
    assert f"continuing from step {step + 1} of 12" in capsys.readouterr().out
    assert results(tmp_path) == results(whole[0])
    assert {**metrics, "seconds": 0} == {**whole[1], "seconds": 0}
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    class Impatient(SmallTask):
        def loss(self, batch, step):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        train(Impatient(), CONFIG, tmp_path, progress=False)
    assert not (tmp_path / "checkpoints").exists()


def test_ctrl_c_in_the_last_step_ends_the_run(tmp_path, whole):
    train(Interrupted(11), CONFIG, tmp_path, progress=False)
    assert results(tmp_path) == results(whole[0])


def test_a_finished_run_is_not_trained_again(tmp_path, whole):
    first = train(SmallTask(), CONFIG, tmp_path, progress=False)
    before = results(tmp_path)
    (tmp_path / "ema.safetensors").unlink()
    again = SmallTask()
    assert train(again, CONFIG, tmp_path, progress=False) == first
    assert results(tmp_path) == before == results(whole[0])
    saved = load_file(tmp_path / "module.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in again.module.state_dict().items())


def test_starting_over_removes_the_old_run(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(8), replace(CONFIG, seed=2), tmp_path, progress=False)
    train(SmallTask(), CONFIG, tmp_path, resume=False, progress=False)
    assert results(tmp_path) == results(whole[0])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(10), CONFIG, tmp_path, progress=False)
    five, eleven = (tmp_path / f"checkpoints/step-{step:08d}" for step in (5, 11))
    assert not five.exists()
    (eleven / "ema.safetensors").write_bytes((eleven / "ema.safetensors").read_bytes()[:-4])
    with pytest.warns(UserWarning, match=r"step-00000011 is damaged .*; continuing from step-00000010"):
        train(SmallTask(), CONFIG, tmp_path, progress=False)
    assert results(tmp_path) == results(whole[0])
    for path in (tmp_path / "checkpoints").iterdir():
        (path / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        train(SmallTask(), CONFIG, tmp_path, progress=False)


def test_a_log_line_that_was_cut_short_is_written_again(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(5), CONFIG, tmp_path, progress=False)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "st')
    train(SmallTask(), CONFIG, tmp_path, progress=False)
    assert results(tmp_path) == results(whole[0])


def test_a_removal_that_is_cut_short_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(10), CONFIG, tmp_path, progress=False)
    unlinked, unlink = [], os.unlink

    def fail(*arguments, **options):
        if len(unlinked) == 2:
            raise OSError("the power went out")
        unlinked.append(arguments)
        return unlink(*arguments, **options)

    with monkeypatch.context() as power:
        power.setattr(os, "unlink", fail)
        with pytest.raises(OSError, match="power"):
            checkpoint.clean(tmp_path / "checkpoints", everything=True)
    assert len(unlinked) == 2
    for path in checkpoint.find(tmp_path / "checkpoints"):
        checkpoint.read(path)


def test_a_disk_that_refuses_is_told_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, whole):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(5), CONFIG, tmp_path, progress=False)
    with monkeypatch.context() as disk:
        disk.setattr(checkpoint, "save_file", full)
        with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*No space left"):
            train(SmallTask(), CONFIG, tmp_path, progress=False)
    assert [path.name for path in checkpoint.find(tmp_path / "checkpoints")] == ["step-00000005", "step-00000006"]
    assert not list((tmp_path / "checkpoints").glob("*.partial"))
    train(SmallTask(), CONFIG, tmp_path, progress=False)
    assert results(tmp_path) == results(whole[0])


@pytest.mark.parametrize(("field", "value"), [("seed", 7), ("steps", 13), ("lr", 0.5), ("betas", (0.5, 0.5)), ("ema", 0.5)])
def test_another_configuration_is_refused_by_name(tmp_path, field, value):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(5), CONFIG, tmp_path, progress=False)
    old = json.dumps(getattr(CONFIG, field)).replace("[", r"\[")
    with pytest.raises(ConfigError, match=rf"{field}={old}.*now {field}="):
        train(SmallTask(), replace(CONFIG, **{field: value}), tmp_path, progress=False)


def test_other_intervals_are_allowed_and_do_not_change_the_weights(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(5), CONFIG, tmp_path, progress=False)
    train(SmallTask(), replace(CONFIG, log_every=2, eval_every=0, save_every=100), tmp_path, progress=False)
    for name in ("module.safetensors", "ema.safetensors"):
        assert results(tmp_path)[name] == results(whole[0])[name]


def test_another_model_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(5), CONFIG, tmp_path, progress=False)
    other = SmallTask()
    other.module[0] = torch.nn.Conv2d(2, 8, 5)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        train(other, CONFIG, tmp_path, progress=False)


def test_two_runs_cannot_share_a_folder(tmp_path):
    class Nested(SmallTask):
        def after_step(self, step):
            with pytest.raises(ConfigError, match="another run is writing"):
                train(SmallTask(), CONFIG, tmp_path, progress=False)

    train(Nested(), replace(CONFIG, steps=1), tmp_path, progress=False)


def test_it_trains_outside_the_main_thread_too(tmp_path, whole):
    thread = threading.Thread(target=train, args=(SmallTask(), CONFIG, tmp_path), kwargs={"progress": False})
    thread.start()
    thread.join()
    assert results(tmp_path) == results(whole[0])


def test_nothing_is_pickled_and_two_checkpoints_stay(whole):
    files = [path for path in whole[0].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jsonl", ""}
    assert [path.name for path in files if not path.suffix] == ["lock"]
    assert sorted(path.name for path in (whole[0] / "checkpoints").iterdir()) == ["step-00000010", "step-00000012"]
