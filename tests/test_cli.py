"""The command as a user meets it: every fault is one line and exit status 2, and nothing is touched."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[1] / "examples" / "data" / "ngc4051_xmm.txt"
QUICK = ["-q", "--simulations", "300", "--set", "n_calibration=50", "--set", "training.max_epochs=2"]


def run(*arguments, cwd, timeout=300):
    """The command in its own process: (exit status, standard output, standard error)."""
    environment = os.environ | {"EAGLERAY_CACHE": str(cwd / "cache"), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "eagleray", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def in_process(*arguments, cwd, monkeypatch, capsys):
    """The command in this process, which saves the imports."""
    from eagleray import cli

    monkeypatch.chdir(cwd)
    monkeypatch.setenv("EAGLERAY_CACHE", str(cwd / "cache"))
    monkeypatch.setattr(sys, "argv", ["eagleray", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    try:
        cli.main()
        status = 0
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status or 0, captured.out, captured.err


def write(folder, name, text):
    """A file in a folder."""
    path = folder / name
    path.write_text(text)
    return path


ROWS = "\n".join(f"{10 * i} {5 + i % 3}" for i in range(40))
RATES = "\n".join(f"{10 * i} {5 + i % 3} 0.5" for i in range(40))

BAD = [
    ("missing file", [], ["nothing.txt"], "nothing.txt"),
    ("directory", [], ["."], "directory"),
    ("not a light curve", [("a.txt", "hello world\nfoo bar\n")], ["a.txt"], "hello|numbers|a.txt"),
    ("binary", [("a.txt", "\x00\x01\x02\x7f" * 50)], ["a.txt"], "a.txt"),
    ("empty", [("a.txt", "")], ["a.txt"], "empty"),
    ("NaN", [("a.txt", ROWS.replace("50 7", "50 nan"))], ["a.txt"], "nan|NaN|finite"),
    ("negative counts", [("a.txt", ROWS.replace("50 7", "50 -7"))], ["a.txt"], "-7"),
    ("fractional counts", [("a.txt", ROWS.replace("50 7", "50 7.3"))], ["a.txt"], "7.3"),
    ("unsorted", [("a.txt", ROWS.replace("50 7", "500 7"))], ["a.txt"], "sorted|increas|order"),
    ("duplicated", [("a.txt", ROWS.replace("\n50 7", "\n40 7"))], ["a.txt"], "40"),
    ("irregular", [("a.txt", ROWS.replace("\n50 7", "\n53 7"))], ["a.txt"], "regular|bins"),
    ("zero errors", [("a.txt", RATES.replace("50 7 0.5", "50 7 0"))], ["a.txt"], "error"),
    ("all zero", [("a.txt", "\n".join(f"{i} 0" for i in range(40)))], ["a.txt"], "zero|rate"),
    ("too few bins", [("a.txt", "\n".join(f"{i} 3" for i in range(5)))], ["a.txt"], "5"),
    ("unknown problem", [("a.txt", ROWS)], ["a.txt", "--problem", "qpo"], "bending_power_law.*qpo"),
    ("unknown parameter", [("a.txt", ROWS)], ["a.txt", "--prior", "foo=uniform(0,1)"], "slope_low.*foo"),
    ("no prior", [("a.txt", ROWS)], ["a.txt", "--prior", "rms=unifrom(0,1)"], "unifrom"),
    ("low above high", [("a.txt", ROWS)], ["a.txt", "--prior", "rms=uniform(1,0.1)"], "low < high.*1.*0.1"),
    ("prior without =", [("a.txt", ROWS)], ["a.txt", "--prior", "rms"], "NAME=VALUE"),
    ("negative rms", [("a.txt", ROWS)], ["a.txt", "--prior", "rms=uniform(-1,1)"], "rms.*-1"),
    ("unknown setting", [("a.txt", ROWS)], ["a.txt", "--set", "foo=1"], "foo"),
    ("unknown nested setting", [("a.txt", ROWS)], ["a.txt", "--set", "training.foo=1"], "foo"),
    ("setting out of range", [("a.txt", ROWS)], ["a.txt", "--set", "training.batch_size=0"], "batch_size.*0"),
    ("setting of wrong type", [("a.txt", ROWS)], ["a.txt", "--set", "n_draws=many"], "n_draws.*many"),
    ("unknown problem setting", [("a.txt", ROWS)], ["a.txt", "--set", "settings.foo=1"], "foo"),
    ("red_noise below one", [("a.txt", ROWS)], ["a.txt", "--set", "settings.red_noise=0.5"], "red_noise.*0.5"),
    ("missing configuration", [("a.txt", ROWS)], ["a.txt", "--config", "run.toml"], "run.toml"),
    ("configuration no TOML", [("a.txt", ROWS), ("run.toml", "= 3")], ["a.txt", "--config", "run.toml"], "TOML"),
    ("no network", [("a.txt", ROWS)], ["a.txt", "--network", "."], "posterior.json"),
    ("damaged network", [("a.txt", ROWS), ("posterior.json", "{")], ["a.txt", "--network", "."], "damaged"),
    ("dt too fine", [("a.txt", ROWS)], ["a.txt", "--dt", "3"], "dt.*3|3.*dt"),
    ("dt negative", [("a.txt", ROWS)], ["a.txt", "--dt", "-3"], "dt.*-3"),
    ("counts unit zero", [("a.txt", ROWS)], ["a.txt", "--counts-unit", "0"], "0"),
    ("red_noise infinite", [("a.txt", ROWS)], ["a.txt", "--set", "settings.red_noise=inf"], "red_noise.*inf"),
    ("prior in a far tail", [("a.txt", ROWS)], ["a.txt", "--prior", "rms=truncnormal(0,1,20,30)"], "single precision"),
    ("output name too long", [("a.txt", ROWS)], ["a.txt", "--out", "a" * 300], "aaa"),
    ("unknown option", [("a.txt", ROWS)], ["a.txt", "--foo"], "foo"),
    ("seed negative", [("a.txt", ROWS)], ["a.txt", "--seed", "-1"], "seed.*-1"),
]


@pytest.mark.parametrize(("files", "arguments", "match"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(files, arguments, match, tmp_path, monkeypatch, capsys):
    import re

    for name, text in files:
        write(tmp_path, name, text)
    before = sorted(tmp_path.iterdir())
    status, out, err = in_process("infer", *arguments, *QUICK, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    message = [line for line in err.splitlines() if line.startswith("eagleray: ")]
    assert status == 2
    assert len(message) == 1
    assert re.search(match, message[0]), message[0]
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_existing_results_are_kept_without_overwrite(tmp_path, monkeypatch, capsys):
    write(tmp_path, "a.txt", ROWS)
    kept = tmp_path / "a_eagleray" / "note"
    kept.parent.mkdir()
    kept.write_text("mine")
    status, _, err = in_process("infer", "a.txt", *QUICK, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2
    assert "--overwrite" in err
    assert kept.read_text() == "mine"


def test_overwrite_replaces_only_what_eagleray_wrote(tmp_path, monkeypatch, capsys):
    """Above all not the folder that holds the observation."""
    (tmp_path / "project").mkdir()
    data = write(tmp_path / "project", "a.txt", ROWS)
    status, _, err = in_process(
        "infer", data, "--out", "project", "--overwrite", *QUICK, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    assert status == 2
    assert "holds something else" in err
    assert data.read_text() == ROWS


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch, capsys):
    write(tmp_path, "a.txt", ROWS)
    write(tmp_path, "cache", "in the way")
    prior = 'rms="loguniform(0.05, 0.9)"'  # with quotes, as in TOML
    arguments = ("infer", "a.txt", "--prior", prior, *QUICK)
    status, out, err = in_process(*arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    assert (tmp_path / "a_eagleray" / "report.html").is_file()


@pytest.mark.slow
def test_train_simulate_and_amortised_infer(tmp_path, monkeypatch, capsys):
    """The verbs by themselves; the network answers for its like and refuses others."""
    rng = np.random.default_rng(0)
    for name, dt in (("a.txt", 10), ("b.txt", 10), ("c.txt", 20)):
        write(tmp_path, name, "\n".join(f"{dt * i} {c}" for i, c in enumerate(rng.poisson(50, 64))))

    def call(*arguments):
        return in_process(*arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)

    assert call("simulate", "a.txt", "--out", "bank.zarr", *QUICK)[0] == 0
    status, _, err = call("train", "a.txt", "--bank", "bank.zarr", "--out", "net", *QUICK)
    assert status == 0, err
    status, out, err = call("infer", "b.txt", "--network", "net", "-q", "--seed", "5")
    assert status == 0, err
    assert "bend_freq" in out
    written = {path.name for path in (tmp_path / "b_eagleray").iterdir()}
    assert written == {"posterior.nc", "summary.csv", "report.html", "figures", "network"}
    status, _, err = call("infer", "c.txt", "--network", "net", "-q")
    assert status == 2
    assert "dt" in err
    status, _, err = call("infer", "b.txt", "--network", "net", "--overwrite", "--prior", "rms=uniform(0.1,1)")
    assert status == 2
    assert "leave out what sets prior" in err
    status, out, err = call("batch", "a.txt", "b.txt", "c.txt", "d.txt", "--network", "net", "-q", "--draws", "100")
    assert status == 0, err
    assert "2 answered" in out
    assert "2 refused" in out
    assert "Refused: c.txt: the network was trained for observations with dt 10" in err
    assert "Refused: d.txt: " in err
    assert len((tmp_path / "a_batch_eagleray" / "summary.csv").read_text().splitlines()) == 5
    status, out, err = call("batch", "d.txt", "--network", "net", "-q", "--out", "none")
    assert status == 2
    assert "at least one observation must suit the network" in err
    assert not (tmp_path / "none").exists()
    status, _, err = call("train", "c.txt", "--bank", "bank.zarr", "--out", "net2", *QUICK)
    assert status == 2
    assert "simulate" in err


@pytest.mark.slow
def test_train_from_a_settings_file(tmp_path, monkeypatch, capsys):
    """Paths are relative to the file; the state of the training is gone when it is done."""
    rng = np.random.default_rng(0)
    write(tmp_path, "a.txt", "\n".join(f"{10 * i} {c}" for i, c in enumerate(rng.poisson(50, 64))))

    def call(*arguments):
        return in_process(*arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)

    (tmp_path / "runs").mkdir()
    lines = ['observation = "../a.txt"', 'out = "net"', "n_simulations = 300", "n_calibration = 50"]
    (tmp_path / "runs" / "run.toml").write_text("\n".join([*lines, "[training]", "max_epochs = 4", ""]))
    status, _, err = call("train", "runs/run.toml", "-q")
    assert status == 0, err
    metrics = (tmp_path / "runs" / "net" / "metrics.csv").read_text().splitlines()
    assert len(metrics) == 5
    assert not (tmp_path / "runs" / "net.training").exists()
    (tmp_path / "none.toml").write_text("seed = 1\n")
    status, _, err = call("train", "none.toml", "--out", "x")
    assert status == 2
    assert "must name an observation" in err
    (tmp_path / "nowhere.toml").write_text('observation = "a.txt"\n')
    status, _, err = call("train", "nowhere.toml")
    assert status == 2
    assert "the folder for the network must be given" in err


@pytest.mark.slow
def test_training_on_simulations_that_fail_leaves_no_state(tmp_path, monkeypatch, capsys):
    """What a likelihood learns of p(valid | theta) has a checkpoint of its own."""
    write(tmp_path, "a.txt", "\n".join(f"{10 * i} {int(i % 8 == 0)}" for i in range(64)))
    lines = ['observation = "a.txt"', 'out = "net"', 'method = "nle"', "n_simulations = 600", "n_calibration = 50"]
    (tmp_path / "run.toml").write_text("\n".join([*lines, "[training]", "max_epochs = 2", ""]))
    status, _, err = in_process("train", "run.toml", "-q", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    assert (tmp_path / "net" / "selection").is_dir()
    assert not (tmp_path / "net.training").exists()


def test_interrupting_leaves_nothing(tmp_path):
    """SIGTERM in the middle of the work: a short message, no traceback, no folder, no hidden remains."""
    environment = os.environ | {"EAGLERAY_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "eagleray", "infer", str(DATA), "--out", "out", "-q"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the observation was read; the work begins
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_help_and_problems(tmp_path, monkeypatch, capsys):
    status, out, _ = run("--help", cwd=tmp_path)
    assert status == 0
    assert all(verb in out for verb in ("infer", "train", "simulate", "problems"))
    status, out, _ = in_process("problems", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0
    assert "bending_power_law" in out
    assert "bend_freq [Hz]" in out


def test_gzipped_text_is_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(ROWS.encode()))
    status, _, err = in_process(
        "simulate", "a.txt.gz", "--out", "bank", *QUICK, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    assert status == 0, err
