"""A fit that was cut short, at whatever moment, goes on and ends where it would have ended."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_fits import fit_regression, regression

from eagleray.errors import InputError

EPOCHS = 300
KILLED = """
import os, signal, sys
from pathlib import Path
from small_fits import fit_regression

how, folder = sys.argv[1], Path(sys.argv[2])

def complete():
    return any(path.name.isdigit() for path in folder.iterdir())

def begun():
    return any("tmp" in path.name for path in folder.iterdir())

def report(progress):
    if how == "told":
        print(progress.epoch, flush=True)
        return
    while progress.epoch == 5 and not complete():  # the first checkpoint
        pass
    if progress.epoch > 5 and begun():  # a second is being written
        os.kill(os.getpid(), signal.SIGKILL)

files = {"checkpoint": folder, "metrics": folder.with_suffix(".csv")}
sys.stdin.readline()
fit_regression(max_epochs=%d, ema=0.9, files=files, checkpoint_seconds=0.0, report=report)
"""


def start(how, folder):
    """The same fit in a process of its own, which waits for a line."""
    command = [sys.executable, "-c", KILLED % EPOCHS, how, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 1, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parent, **pipes)


def finish(folder, **settings):
    """The same fit here, from where it is."""
    files = {"checkpoint": folder, "metrics": folder.with_suffix(".csv")}
    told = []
    params, history = fit_regression(
        max_epochs=EPOCHS, ema=0.9, files=files, report=lambda progress: told.append(progress.epoch), **settings
    )
    return params["w"], history, told


def test_killed_training_resumes_to_the_same_weights(tmp_path):
    """Killed while it writes, then at some moment by another process; the last run is never stopped."""
    folder = tmp_path / "fit"
    with start("while writing", folder) as writing, start("told", folder) as told:  # both import meanwhile
        writing.communicate("go\n")
        assert writing.returncode == -signal.SIGKILL
        assert any("tmp" in path.name for path in folder.iterdir())
        told.stdin.write("go\n")
        first = int(told.stdout.readline())
        for _ in range(5):
            told.stdout.readline()
        told.kill()
    assert told.returncode == -signal.SIGKILL
    assert 1 < first < EPOCHS
    resumed, history, epochs = finish(folder)
    assert first <= epochs[0]
    assert epochs == list(range(epochs[0], EPOCHS + 1))
    whole, expected = fit_regression(max_epochs=EPOCHS, ema=0.9)
    np.testing.assert_array_equal(resumed, whole["w"])
    assert history.validation_loss == expected.validation_loss
    assert history.train_loss == expected.train_loss
    assert (history.best_epoch, history.batch_size) == (expected.best_epoch, expected.batch_size)
    lines = folder.with_suffix(".csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, EPOCHS + 1))
    assert not any("tmp" in path.name for path in folder.iterdir())
    again, history_again, epochs = finish(folder)  # a fit that is over is read
    np.testing.assert_array_equal(again, resumed)
    assert history_again == history
    assert epochs == []


def test_a_fit_that_ran_out_of_time_goes_on_with_more(tmp_path):
    for limit, n_done in ((1e-6, 1), (1e-6, 1), (None, 4)):
        _, history = fit_regression(max_epochs=4, max_seconds=limit, files={"checkpoint": tmp_path / "fit"})
        assert len(history.train_loss) == n_done


def test_an_interrupted_fit_leaves_its_last_checkpoint(tmp_path):
    def interrupt(progress):
        if progress.epoch == 4:
            raise KeyboardInterrupt

    told = []
    given = {"max_epochs": 4, "checkpoint_seconds": 0.0, "files": {"checkpoint": tmp_path / "fit"}}
    with pytest.raises(KeyboardInterrupt):
        fit_regression(report=interrupt, **given)
    fit_regression(report=lambda progress: told.append(progress.epoch), **given)
    assert 2 <= told[0] <= 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fit of four epochs with its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / "fit"
    fit_regression(max_epochs=4, files={"checkpoint": folder})
    return folder


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"learning_rate": 0.01}, "with learning_rate 0.05, not 0.01"),
        ({"key": 1}, r"with key \[0, 0\], not \[0, 1\]"),
        ({"training": regression(320)}, r"with steps \[10\], not \[20\]"),
        ({"validation": regression(50, seed=5)}, "with validation data [0-9a-f]{16}, not [0-9a-f]{16}"),
    ],
)
def test_another_fit_is_refused(folder, other, message):
    with pytest.raises(InputError, match=f"{folder} is of a training {message}; remove the folder or choose another"):
        fit_regression(**{"max_epochs": 4, "files": {"checkpoint": folder}, **other})


def test_a_damaged_checkpoint_is_refused(folder):
    record = next(folder.glob("4/record/metadata"))
    whole = record.read_text()
    record.write_text("{")
    with pytest.raises(InputError, match="is damaged .*; remove the folder to start anew"):
        fit_regression(max_epochs=4, files={"checkpoint": folder})
    record.write_text(whole)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep checkpoints in .*file.*; choose another folder"):
        fit_regression(files={"checkpoint": tmp_path / "file" / "fit"})
