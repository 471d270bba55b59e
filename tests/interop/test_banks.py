"""Banks of simulations on disk."""

import shutil

import numpy as np
import pytest
import zarr

from eagleray.errors import InputError
from eagleray.interop.banks import bank_writer, load_bank, open_bank, save_bank
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


def test_a_bank_is_read_piece_by_piece(bank, saved):
    reader = open_bank(saved, signature=SIGNATURE)
    assert (reader.n_rows, reader.chunk_rows) == (5000, 4096)
    theta, x, valid = reader.read(4000, 4500)
    for name, found in (("theta", theta), ("x", x), ("valid", valid)):
        np.testing.assert_array_equal(found, getattr(bank, name)[4000:4500])
        assert type(found) is np.ndarray
    with pytest.raises(InputError, match="was simulated with problem made up, not another"):
        open_bank(saved, signature={"problem": "another"})


def pieces(bank, *edges):
    """The bank in pieces."""
    names = ("theta", "x", "valid")
    ends = zip(edges, (*edges[1:], len(bank.theta)), strict=True)
    return [Bank(**{name: getattr(bank, name)[i:j] for name in names}) for i, j in ends]


@pytest.mark.parametrize("edges", [(0,), (0, 1000, 2000, 3000, 4000), (0, 7, 1500)])
def test_a_bank_is_written_piece_by_piece(bank, tmp_path, edges):
    with bank_writer(tmp_path / "b.zarr", signature=SIGNATURE, chunk_rows=1000) as append:
        for piece in pieces(bank, *edges):
            append(piece)
        assert not (tmp_path / "b.zarr").exists()
    loaded = load_bank(tmp_path / "b.zarr", signature=SIGNATURE)
    for name in ("theta", "x", "valid"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(bank, name))
    assert open_bank(tmp_path / "b.zarr", signature=SIGNATURE).chunk_rows == 1000


def test_a_bank_cut_short_is_no_bank(bank, tmp_path):
    def interrupted():
        with bank_writer(tmp_path / "b.zarr", signature=SIGNATURE) as append:
            append(bank)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with (
        pytest.raises(ValueError, match="a bank must have simulations, got none"),
        bank_writer(tmp_path / "b.zarr", signature=SIGNATURE),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_chunk_is_refused_when_it_is_read(saved):
    reader = open_bank(saved, signature=SIGNATURE)
    for chunk in (saved / "x" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    with pytest.raises(InputError, match="rows 0 to 10 of .* are damaged .*; simulate anew"):
        reader.read(0, 10)


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
