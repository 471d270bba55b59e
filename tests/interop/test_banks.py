"""Banks of simulations on disk."""

import shutil

import numpy as np
import pytest
import zarr

from eagleray.errors import InputError
from eagleray.interop.banks import load_bank, save_bank
from eagleray.records import Bank

SIGNATURE = {"problem": "made up", "prior": {"b": "uniform(0, 1)", "a": "normal(0, 1)"}, "summary": {"dt": 0.1}}


@pytest.fixture
def bank():
    rng = np.random.default_rng(0)
    return Bank(
        theta=rng.normal(size=(5000, 2)).astype(np.float32),
        x=rng.normal(size=(5000, 3, 4)).astype(np.float32),
        valid=rng.random((5000, 3)) < 0.9,
    )


@pytest.fixture
def saved(bank, tmp_path):
    folder = tmp_path / "bank.zarr"
    save_bank(bank, folder, signature=SIGNATURE)
    return folder


def test_round_trip(bank, saved):
    turned = dict(reversed(SIGNATURE.items()))
    loaded = load_bank(saved, signature=turned)
    for name in ("theta", "x", "valid"):
        theirs, ours = getattr(loaded, name), getattr(bank, name)
        np.testing.assert_array_equal(theirs, ours)
        assert theirs.dtype == ours.dtype
    assert [p.name for p in saved.parent.iterdir()] == ["bank.zarr"]


def test_tuples_in_a_signature_are_lists_on_disk(bank, tmp_path):
    signature = {**SIGNATURE, "bands": (1, 2)}
    save_bank(bank, tmp_path / "b.zarr", signature=signature)
    assert load_bank(tmp_path / "b.zarr", signature=signature).theta.shape == (5000, 2)


def test_simulations_of_something_else_are_refused(saved):
    with pytest.raises(InputError, match=r"was simulated with summary \{'dt': 0.1\}, not \{'dt': 0.2\}; simulate anew"):
        load_bank(saved, signature={**SIGNATURE, "summary": {"dt": 0.2}})
    with pytest.raises(InputError, match="was simulated with telescope None, not NICER"):
        load_bank(saved, signature={**SIGNATURE, "telescope": "NICER"})


def spoil_format(folder):
    zarr.open_group(folder, mode="a").attrs["format"] = "eagleray bank 0"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "is no bank of simulations .*make one with simulate"),
        (lambda f: shutil.rmtree(f / "x"), "is no bank of simulations"),
        (lambda f: (f / "zarr.json").write_text("{"), "is no bank of simulations"),
        (lambda f: (f / "zarr.json").unlink(), "is no bank of simulations"),
        (spoil_format, "has the format 'eagleray bank 0', this version reads 'eagleray bank 1'"),
    ],
)
def test_damaged_banks_are_refused(saved, spoil, message):
    spoil(saved)
    with pytest.raises(InputError, match=message):
        load_bank(saved, signature=SIGNATURE)


def test_an_existing_bank_is_kept_unless_told_otherwise(bank, saved):
    with pytest.raises(InputError, match="exists"):
        save_bank(bank, saved, signature=SIGNATURE)
    save_bank(bank, saved, signature={"problem": "another"}, overwrite=True)
    assert len(load_bank(saved, signature={"problem": "another"}).valid) == 5000
