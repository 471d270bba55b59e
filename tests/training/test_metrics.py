"""The file of metrics: a line for each epoch, in step with the history."""

import csv

import numpy as np
import pytest
from small_fits import fit_regression

from eagleray.errors import InputError
from eagleray.training.metrics import EpochMetrics, append_metrics, open_metrics


def line(epoch):
    return EpochMetrics(epoch, 10 * epoch, 1.0 / 3.0, 2.0, 1e-3, 0.5, 0.0, 1e5, 0.25 * epoch)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_epoch_is_a_line(tmp_path):
    path = tmp_path / "new" / "metrics.csv"
    _, history = fit_regression(max_epochs=4, files={"metrics": path})
    rows = read(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40]
    for name, losses in (("train_loss", history.train_loss), ("validation_loss", history.validation_loss)):
        np.testing.assert_allclose([float(row[name]) for row in rows], losses, rtol=1e-6)
    rates = [float(row["learning_rate"]) for row in rows]
    assert all(later < earlier for earlier, later in zip(rates, rates[1:], strict=False))
    assert all(float(row["gradient_norm"]) > 0 and float(row["rows_per_second"]) > 0 for row in rows)
    assert float(rows[-1]["seconds"]) == pytest.approx(history.seconds, rel=1e-6)


def test_what_comes_after_the_last_checkpoint_is_cut_off(tmp_path):
    path = tmp_path / "metrics.csv"
    open_metrics(path, 0)
    for epoch in (1, 2, 3):
        append_metrics(path, line(epoch))
    with path.open("a") as file:
        file.write("1")  # a line cut short
    open_metrics(path, 2)
    append_metrics(path, line(3))
    assert [row["epoch"] for row in read(path)] == ["1", "2", "3"]
    open_metrics(path, 0)
    assert read(path) == []


def test_other_files_are_left_alone(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,mine\n1,2\n")
    with pytest.raises(InputError, match="the file of metrics must be new or one written before, got .*metrics.csv"):
        open_metrics(path, 0)
    assert path.read_text() == "epoch,mine\n1,2\n"
    with pytest.raises(InputError, match="cannot write .*; choose another file for the metrics"):
        open_metrics(path / "below", 0)
