"""Files of astronomers as light curves: known observations, invariants of the bins, and every message of refusal."""

import gzip
import importlib.util
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from eagleray.errors import InputError
from eagleray.interop import read_observation
from eagleray.interop.binning import (
    MAX_BINS,
    bin_events,
    bins_inside,
    check_gti,
    make_light_curve,
    rebin,
    regular_grid,
    suggest_dt,
    trim,
)
from eagleray.interop.columns import common_quantum
from eagleray.interop.fits import read_fits
from eagleray.records import EventList, TimeGrid

STINGRAY = Path(importlib.util.find_spec("stingray").submodule_search_locations[0])
DATA = STINGRAY / "tests" / "data"
NGC4051 = Path(__file__).parents[2] / "examples" / "data" / "ngc4051_xmm.txt"


# --- builders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def _write(content, name="data.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def table(rows):
    return "\n".join(" ".join(str(word) for word in row) for row in rows) + "\n"


def counts_table(n=20, value=3):
    return [(i, value + i % 2) for i in range(n)]


@pytest.fixture
def write_fits(tmp_path):
    def _write(columns, name="RATE", gti=None, header=None, filename="data.fits"):
        formats = {k: f"{np.shape(v)[1]}D" if np.ndim(v) > 1 else "D" for k, v in columns.items()}
        hdu = fits.BinTableHDU.from_columns(
            [fits.Column(k, formats[k], array=v) for k, v in columns.items()], name=name
        )
        hdu.header.update(
            {"TELESCOP": "NuSTAR", "INSTRUME": "FPMA", "MJDREFI": 55197, "MJDREFF": 0.0, "TSTART": 0.0, "TSTOP": 1.0}
            | (header or {})
        )
        hdus = [fits.PrimaryHDU(), hdu]
        if gti is not None:
            gti = np.reshape(np.asarray(gti, float), (-1, 2))
            edges = [fits.Column("START", "D", array=gti[:, 0]), fits.Column("STOP", "D", array=gti[:, 1])]
            hdus.append(fits.BinTableHDU.from_columns(edges, name="GTI"))
        path = tmp_path / filename
        fits.HDUList(hdus).writeto(path)
        return path

    return _write


def events(times, gti, start=0.0):
    return EventList(times=np.asarray(times, float), gti=np.reshape(np.asarray(gti, float), (-1, 2)), start=start)


# --- real observations ------------------------------------------------------------------------------------------------


def test_lc_sample_is_counts_of_grs1915():
    curve = read_observation(STINGRAY / "datasets" / "lc_sample.txt", counts_unit=1.6)
    values = np.asarray(curve.values)
    assert curve.kind == "counts"
    assert curve.error is None
    assert curve.grid == TimeGrid(n_bins=22143, dt=0.125)
    assert curve.n_exposed == 22143
    assert curve.start == 110911040.0703125 - 0.0625
    np.testing.assert_allclose(values.mean(dtype=float), 1486.5, atol=0.05)
    np.testing.assert_array_equal(values, np.rint(values))


def test_lc_sample_without_its_unit_names_the_unit():
    with pytest.raises(InputError, match=r"counts must be whole numbers, got 4238.4.*--counts-unit 1.6 "):
        read_observation(STINGRAY / "datasets" / "lc_sample.txt")


def test_ngc4051_is_rates_with_errors():
    curve = read_observation(NGC4051)
    assert curve.kind == "rate"
    assert curve.grid == TimeGrid(n_bins=1170, dt=100.0)
    assert curve.start == 50.0
    np.testing.assert_allclose(curve.mean_rate, 29.409, atol=1e-3)
    np.testing.assert_allclose(curve.error[0], 0.98405248, rtol=1e-6)
    assert any("header" in note for note in curve.notes)


def test_ngc4051_in_wider_bins():
    curve = read_observation(NGC4051, dt=1000)
    assert curve.grid == TimeGrid(n_bins=117, dt=1000.0)
    errors = np.asarray(read_observation(NGC4051).error, float)
    np.testing.assert_allclose(curve.error[0], np.sqrt((errors[:10] ** 2).sum()) / 10, rtol=1e-5)


@pytest.mark.parametrize("band", [0, 2])
def test_erosita_has_24_exposed_bins_and_background(band):
    curve = read_observation(DATA / "LightCurve_bexvar.fits", band=band)
    exposed = np.asarray(curve.exposure) > 0
    assert curve.grid == TimeGrid(n_bins=143, dt=100.0)
    assert curve.n_exposed == exposed.sum() == 24
    assert exposed[0]
    assert exposed[-1]
    assert np.asarray(curve.values).sum() == {0: 2653, 2: 141}[band]
    assert (np.asarray(curve.background)[~exposed] == 0).all()
    # the file's own RATE is what counts, background and exposure give
    with fits.open(DATA / "LightCurve_bexvar.fits") as hdus:
        rate = hdus["RATE"].data["RATE"][:, band]
    ours = (curve.values - curve.background)[exposed] / curve.exposure[exposed] / 100
    np.testing.assert_allclose(ours, rate[np.isfinite(rate)], rtol=1e-4)


EVENT_FILES = {  # events, good time intervals, events of the default light curve, its dt
    "xte_gx_test.evt.gz": (3518, 1, 3415, 0.05),
    "xte_test.evt.gz": (1000, 1, 999, 1.0),
    "chandra_test.fits": (4612, 1, 4608, 0.5),
    "laxpc_file_read.fits": (1000, 1, 999, 5e-4),
    "monol_testA.evt": (1000, 1, 1000, 1.0),
    "monol_testA_calib_unsrt.evt": (1000, 1, 998, 0.5),
}


@pytest.mark.parametrize("name", EVENT_FILES)
def test_event_files_of_many_missions(name):
    n_events, n_gti, n_counted, dt = EVENT_FILES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        event_list = read_fits(DATA / name)
        curve = read_observation(DATA / name)
    assert event_list.times.shape == (n_events,)
    assert event_list.gti.shape == (n_gti, 2)
    assert abs(event_list.gti[0, 0]) < 1e-7  # start is the float64 nearest to it
    assert (np.diff(event_list.times) >= 0).all()
    assert curve.kind == "counts"
    assert curve.grid.dt == dt
    assert np.asarray(curve.values).sum() == n_counted
    assert any(f"dt = {dt:g} s chosen" in note for note in curve.notes)


@pytest.mark.parametrize("name", ["xte_gx_test.evt.gz", "chandra_test.fits", "laxpc_file_read.fits"])
def test_offsets_are_exact(name):
    from stingray import EventList as StingrayEvents

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = StingrayEvents.read(str(DATA / name), fmt="hea")
    ours = read_fits(DATA / name)
    exact = (theirs.time - np.longdouble(ours.start)).astype(float)
    np.testing.assert_array_equal(ours.times, exact)


def test_two_good_time_intervals(write_fits):
    start = 2.138e8
    times = start + np.r_[np.arange(0.5, 93), np.arange(94.5, 200)]
    path = write_fits({"TIME": times}, "EVENTS", gti=[[start, start + 93.2], [start + 93.75, start + 200]])
    curve = read_observation(path, dt=1)
    assert read_fits(path).gti.shape == (2, 2)
    assert curve.start == start
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(curve.exposure) == 0), [93])
    np.testing.assert_array_equal(curve.values, curve.exposure)


# --- parity with Stingray ---------------------------------------------------------------------------------------------


def test_time_resolution_is_noted():
    assert any("steps of 0.44104 s" in note for note in read_fits(DATA / "chandra_test.fits").notes)


@pytest.mark.parametrize(("name", "dt"), [("xte_gx_test.evt.gz", 0.25), ("chandra_test.fits", 2.0)])
def test_bin_events_matches_stingray(name, dt):
    from stingray import EventList as StingrayEvents
    from stingray import Lightcurve

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = StingrayEvents.read(str(DATA / name), fmt="hea")
        theirs = Lightcurve.make_lightcurve(theirs.time, dt, gti=theirs.gti)  # to_lc would change dt to frame times
        theirs_good = np.asarray(theirs.mask)
    ours = bin_events(read_fits(DATA / name), dt)
    n = ours.grid.n_bins
    assert theirs.n - n in (0, 1)
    np.testing.assert_array_equal(np.asarray(ours.exposure) > 0, theirs_good[:n])
    np.testing.assert_array_equal(np.asarray(ours.values)[theirs_good[:n]], theirs.counts[:n][theirs_good[:n]])


GTIS = st.lists(st.floats(0.01, 20), min_size=2, max_size=12).map(
    lambda steps: np.cumsum(steps[: len(steps) // 2 * 2]).reshape(-1, 2)
)


@settings(max_examples=60, deadline=None)
@given(gti=GTIS, dt=st.floats(0.05, 3))
def test_exposed_bins_are_stingrays_good_bins(gti, dt):
    from stingray.gti import create_gti_mask

    gti = gti - gti[0, 0]
    n_bins = max(int(gti[-1, 1] / dt), 2)
    edges = np.arange(n_bins) * dt
    ours = bins_inside(gti, edges, dt) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = create_gti_mask(edges + dt / 2, gti, dt=dt)
    tie = np.abs(np.abs((edges[:, None, None] + [[[0.0, dt]]]) - gti[None, :, :]) / dt - 1e-3).min(axis=(1, 2)) < 1e-9
    np.testing.assert_array_equal(ours[~tie], theirs[~tie])


# --- invariants of the bins -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    gti=GTIS,
    dt=st.floats(0.05, 3),
    phases=st.lists(st.floats(0, 1), min_size=1, max_size=50),
)
def test_bin_events_counts_or_reports_every_event(gti, dt, phases):
    times = np.sort(np.array(phases) * gti[-1, 1])
    if times[-1] < gti[0, 0] or gti[-1, 1] - gti[0, 0] < dt:
        return
    curve = bin_events(events(times, gti), dt)
    values, exposure = np.asarray(curve.values), np.asarray(curve.exposure)
    lost = int(curve.notes[-1].split()[0]) if curve.notes else 0
    assert values.sum() + lost == times.size
    assert (values[exposure == 0] == 0).all()
    assert exposure.sum() * dt <= np.diff(gti, axis=1).sum() + 2e-3 * dt * len(gti)


@settings(max_examples=100, deadline=None)
@given(
    dt=st.sampled_from([0.125, 1 / 128, 0.1, 1.0, 100.0, 1 / 3, 7.3e-4]),
    start=st.sampled_from([0.0, -5.0, 1.1e8]),
    gaps=st.lists(st.sampled_from([1] * 12 + [2, 5, 1000]), min_size=3, max_size=80),
)
def test_regular_grid_finds_dt_and_gaps(dt, start, gaps):
    gaps = [1, 1, *gaps]
    index = np.r_[0, np.cumsum(gaps)]
    if np.mean(np.array(gaps) == 1) < 0.2:
        return
    grid, found = regular_grid(start + index * dt)
    np.testing.assert_array_equal(found, index)
    assert grid.n_bins == index[-1] + 1
    np.testing.assert_allclose(grid.dt, dt, rtol=1.01e-3 / index[-1] + 3e-8 / dt)


def test_missing_rows_are_gaps(write):
    curve = read_observation(write("0 5\n1 6\n2 7\n7 8\n8 9\n"))
    np.testing.assert_array_equal(curve.exposure, [1, 1, 1, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(curve.values, [5, 6, 7, 0, 0, 0, 0, 8, 9])
    assert "4 bins without data are gaps" in curve.notes


def curve_of(values, exposure, kind="counts", error=None):
    grid = TimeGrid(n_bins=len(values), dt=0.5)
    return make_light_curve(values=values, exposure=exposure, grid=grid, kind=kind, start=10.0, error=error)


def test_rebin_adds_counts_and_averages_exposures():
    curve = rebin(curve_of([1, 2, 0, 4, 5], [1, 1, 0, 0.5, 1]), 2)
    np.testing.assert_array_equal(curve.values, [3, 4])
    np.testing.assert_array_equal(curve.exposure, [1, 0.25])
    assert curve.grid == TimeGrid(n_bins=2, dt=1.0)
    assert "last 1 bins" in curve.notes[-1]


def test_rebin_keeps_only_rates_watched_throughout():
    curve = rebin(curve_of([1.0, 2, 0, 4], [1, 1, 0, 1], "rate", [0.3, 0.4, 0, 1]), 2)
    np.testing.assert_allclose(curve.values, [1.5, 0])
    np.testing.assert_allclose(curve.error, [0.25, 0])
    np.testing.assert_array_equal(curve.exposure, [1, 0])


def test_rebin_refuses_too_wide_bins():
    with pytest.raises(InputError, match="must number 1 to 3, got 4"):
        rebin(curve_of([1, 2, 3], [1, 1, 1]), 4)


def test_trim_moves_the_start():
    curve = trim(curve_of([0, 0, 2, 3, 0], [0, 0, 1, 0.5, 0]))
    np.testing.assert_array_equal(curve.values, [2, 3])
    assert curve.start == 11.0
    assert trim(curve) is curve


@given(span=st.floats(1e-3, 1e9))
def test_suggested_dt_is_round_and_gives_a_thousand_bins(span):
    dt = suggest_dt(span)
    assert f"{dt:.10e}"[0] in "125"
    assert 1023.9 < span / dt < 2561


def test_touching_intervals_are_joined():
    np.testing.assert_array_equal(check_gti(np.array([[5.0, 7], [0, 3], [3, 4]])), [[0, 4], [5, 7]])


@given(unit=st.sampled_from([1.6, 0.25, 8 / 3, 31.4]), counts=st.lists(st.integers(0, 5000), min_size=30, max_size=60))
def test_common_quantum_divides_all_counts(unit, counts):
    values = np.array([0, 1, 2, 3, *counts]) * unit
    # Few small counts leave the unit known to a few digits only.
    np.testing.assert_allclose(common_quantum(values), unit, rtol=1e-3)


def test_common_quantum_of_real_numbers_is_none():
    assert common_quantum(np.random.default_rng(1).uniform(1, 2, 200)) is None


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "0 5\n1 6\n2 7\n",
        "0,5\n1, 6\n2;7\n",
        "# comment\ntime counts\n\n0\t5 # first\n1 6\n2 7",
        "\ufefft,c\r\n0,5\r\n1,6\r\n2,7\r\n",
    ],
)
@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode(), mtime=0)])
def test_text_layouts(write, content, pack):
    curve = read_observation(write(pack(content)))
    np.testing.assert_array_equal(curve.values, [5, 6, 7])
    assert (curve.start, curve.grid.dt) == (-0.5, 1.0)


def test_single_column_is_event_times(write):
    curve = read_observation(write("100.5\n101.25\n101.5\n103.5\n"), dt=1)
    np.testing.assert_array_equal(curve.values, [2, 1, 0])
    assert curve.start == 100.5
    assert "1 of 4 events" in curve.notes[-1]


def test_scaled_counts_are_pointed_out(write):
    curve = read_observation(write(table((i, 8 * (i + 1)) for i in range(6))))
    assert "multiples of 8" in curve.notes[-1]


def test_fits_rates_with_gaps(write_fits):
    rate = np.array([1.0, 2, np.nan, 3, 4, 5])
    columns = {"TIME": 1e8 + 10.0 * np.arange(6), "RATE": rate, "ERROR": np.full(6, 0.5)}
    path = write_fits(columns, gti=[[1e8, 1e8 + 50]], header={"TIMEDEL": 10.0, "TIMEPIXR": 0.0})
    curve = read_observation(path)
    np.testing.assert_array_equal(curve.exposure, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(curve.values, [1, 2, 0, 3, 4])
    assert (curve.start, curve.kind) == (1e8, "rate")


def test_fits_times_in_days_and_timezero(write_fits):
    path = write_fits(
        {"TIME": np.arange(4.0) / 86400, "COUNTS": [1, 2, 3, 4]},
        header={"TIMEDEL": 1 / 86400, "TIMEUNIT": "d", "TIMEZERI": 1, "TIMEZERF": 0.5},
    )
    curve = read_observation(path)
    np.testing.assert_array_equal(curve.values, [1, 2, 3, 4])
    np.testing.assert_allclose(curve.grid.dt, 1.0, rtol=1e-12)
    np.testing.assert_allclose(curve.start, 1.5 * 86400 - 0.5, rtol=1e-12)


def test_fits_intervals_in_days_and_timezero(write_fits):
    days = {"TIMEUNIT": "d", "TIMEZERO": 1.5}
    columns = {"TIME": np.arange(6.0) / 86400, "COUNTS": np.arange(6.0) + 1}
    path = write_fits(columns, gti=np.array([-0.5, 3.5]) / 86400, header=days | {"TIMEDEL": 1 / 86400})
    with fits.open(path, mode="update") as hdus:
        hdus["GTI"].header.update(days)
    np.testing.assert_array_equal(read_observation(path).values, [1, 2, 3, 4])


def test_own_unit_of_a_column_goes_before_timeunit(write_fits):
    path = write_fits({"TIME": np.arange(4.0), "COUNTS": [1, 2, 3, 4]}, header={"TIMEUNIT": "d", "TUNIT1": "s"})
    assert read_observation(path).grid == TimeGrid(n_bins=4, dt=1.0)


def event_file(write_fits, header, without=("TELESCOP", "INSTRUME")):
    times = np.array([3.5, 0.5, 1.5, 2.5])
    path = write_fits({"TIME": times}, "EVENTS", gti=[0, 4], header=header)
    with fits.open(path, mode="update") as hdus:
        for key in without:
            del hdus["EVENTS"].header[key]
    return path


@pytest.mark.parametrize("without", [("TELESCOP", "INSTRUME"), ("TSTART", "TSTOP")])
def test_events_without_a_mission_are_read_as_they_stand(write_fits, without):
    curve = read_observation(event_file(write_fits, {}, without), dt=1)
    np.testing.assert_array_equal(curve.values, [1, 1, 1, 1])
    assert curve.start == 0
    assert any(f"no {', '.join(without)}" in note for note in curve.notes)


def test_events_in_days(write_fits):
    events_of = read_fits(event_file(write_fits, {"TIMEUNIT": "d"}, ()))
    np.testing.assert_allclose(events_of.times, np.array([0.5, 1.5, 2.5, 3.5]) * 86400)
    assert any("not in seconds" in note for note in events_of.notes)


def test_refuses_packed_events_without_a_mission(write_fits):
    path = write_fits({"TIME": np.arange(8.0).reshape(4, 2)}, "EVENTS")
    with fits.open(path, mode="update") as hdus:
        del hdus["EVENTS"].header["TELESCOP"]
    refused(path, "one TIME in each row, got 2, and a header without TELESCOP")


@pytest.mark.parametrize("content", ["0 5\n1 6\n2 7\n", "0 5 1\n1 6 1\n2 7 1\n", "0\n1\n2\n"])
def test_names_that_are_not_utf8_can_be_written(tmp_path, content):
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_text(content)
    assert read_observation(path).source.encode() == "caf\ufffd.txt".encode()


def test_fits_names_that_are_not_utf8_can_be_written(write_fits):
    columns = {"TIME": np.arange(4.0), "COUNTS": [1, 2, 3, 4]}
    curve = read_observation(write_fits(columns, filename=os.fsdecode(b"caf\xe9.fits")))
    assert curve.source == "caf\ufffd.fits"
    path = write_fits({"TIME": EVENT_TIMES}, "EVENTS", filename=os.fsdecode(b"caf\xe9.evt"))
    assert read_observation(path).source == "caf\ufffd.evt"


@pytest.mark.parametrize(
    "content",
    [
        "# time [s] since MJD 55197\n0 5\n1 6\n",
        "# MJDREF 55197\ntime counts\n0 5\n1 6\n",
        "# day 3 of MJD = 55197.0\n0 5\n1 6\n",
        "30000 5\n30100 6\n30200 7\n",
        "1,2, \n2,3,\n3, 4\n",
    ],
)
def test_seconds_and_commas_are_not_mistaken(write, content):
    assert read_observation(write(content)).n_exposed in (2, 3)


# --- refusals: the file -----------------------------------------------------------------------------------------------


def refused(path, match, **arguments):
    with pytest.raises(InputError, match=match) as caught:
        read_observation(path, **arguments)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_not_a_file(tmp_path, write):
    refused(tmp_path / "none.txt", "must exist, got .*none.txt")
    refused(tmp_path, "must be a file, got the directory")
    refused("/dev/null", "must be a regular file")
    refused(write(b""), "must not be empty")


def test_refuses_unreadable_file(write, monkeypatch):
    path = write("0 1\n")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    refused(path, r"must be readable, got .*Permission denied.*check its permissions")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (bytes(range(256)) * 4, "must be FITS or text, got binary data"),
        (pickle.dumps({"counts": [1, 2]}), "must be FITS or text, got binary data"),
        (gzip.compress(b"0 1\n1 2\n" * 500, mtime=0)[:-12], "must be a whole gzip file"),
        (gzip.compress(b"0 1\n1 2\n", mtime=0)[:12], "must be a whole gzip file"),
        ("once upon a time\nthere was\n", "must hold numbers, got only text .'once upon"),
        ("# nothing\n\n", "must hold numbers, got no line of data"),
        ("0 1\n1 x2\n", "must be a number, got 'x2' in line 2"),
        ("0 1\n1 2 3\n", "same number of columns, got 3 in line 2 and 2 in line 1"),
        ("0 1 2 3\n1 1 2 3\n", "got 4 columns"),
        ("0 1\n", "at least 2 bins, got 1"),
        ("5.0\n", "event times must differ, got 1 at 5"),
        ("5.0\n4.0\n", "single column. must be sorted, got 4 after 5 in row 2"),
        ("# t c\n0 1\n1 nan\n2 inf\n", r"counts must be finite, got 2 .*first: nan in line 3"),
        ("0 1\n1 -2\n2 -3\n", "counts must not be negative, got 2 such values .first: -2 in row 2"),
        ("0 1.5\n1 2.25\n2 7.1\n", "counts must be whole numbers, got 1.5 in row 1"),
        ("0 1 1\n1 2 0\n2 2 -1\n", "errors of the rates must be positive, got 2 that are not .first: 0 in row 2"),
        ("0 1\n2 1\n1 1\n", "times must be sorted, got 1 s after 2 s .row 3"),
        ("0 1\n1 1\n1 1\n", "times must differ, got 1 s twice .rows 2 and 3"),
        ("0 1\n1 1\n2 1\n3.4 1\n4.4 1\n", "equally spaced.*got a step of 1.4 s where bins are 1 s .*rows 3 and 4"),
        ("0 1\n1 1\n2 1\n1e9 1\n", "at most 16777216, got 1000000001 of 1 s"),
        (table([(0, 1), (1, 2), (2, 3), (2 * MAX_BINS, 1)]), "at most 1048576 bins.*pass --dt 3 or larger"),
        ("0 0\n1 0\n2 0\n", "counts must not all be zero, got 3 empty bins"),
        ("0 -1 1\n1 0 1\n2 0 1\n", "mean rate must be positive, got -0.333"),
        ("0 1\n1 1e300\n2 3\n", r"counts must be at most 2\*\*53 .9e15. in a bin, got 1e\+300 in row 2"),
        ("55197.5 1\n55197.6 2\n55197.7 3\n", "look like days .first: 55197.5.; multiply them by 86400"),
        ("2455197.5\n2455197.6\n2455197.7\n", "look like days .first: 2455197.5"),
        ("MJD rate[counts/s] err\n0 1 1\n1 2 1\n", "look like days .first: 0, header 'MJD'.; multiply them by 86400"),
        ("# time (days), rate (ct s^-1), err\n0 1 1\n1 2 1\n", "header 'days'"),
        ("0;1\n1,5;2\n", "must have decimal points, got '1,5;2' in line 2"),
        ("0,5\t1\n1,5\t2\n", "must have decimal points, got '0,5.*in line 1; replace decimal commas"),
        ("0,5 1,25\n", "must have decimal points"),
        ("0 1e39 1\n1 1 1\n2 1 1\n", "values must fit single precision"),
    ],
)
def test_refuses_text(write, content, match):
    refused(write(content), match)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"dt": 0}, "dt must be positive"),
        ({"dt": -1.0}, "dt must be positive .seconds., got -1.0"),
        ({"dt": float("nan")}, "dt must be positive"),
        ({"dt": 0.5}, "whole multiple of the file's bins of 1 s, got 0.5"),
        ({"dt": 2.5}, "got 2.5; pass --dt 2 or --dt 3"),
        ({"dt": 50}, "shorter than the observation of 20 s, got 50"),
        ({"dt": 20}, "at least 2 exposed bins, got 1"),
        ({"counts_unit": 0}, "counts_unit must be positive, got 0"),
        ({"counts_unit": float("nan")}, "counts_unit must be positive"),
        ({"band": 1}, "band must be 0 for text files, got 1"),
    ],
)
def test_refuses_arguments(write, arguments, match):
    refused(write(table(counts_table())), match, **arguments)


# --- refusals: FITS and events ----------------------------------------------------------------------------------------


def test_refuses_fits_without_usable_table():
    refused(DATA / "sample_variable_series.fits", r"TIME column, got the extensions PRIMARY \(PrimaryHDU\), 1 ")
    refused(DATA / "lcurve_new.fits", "GTI. must cover the light curve, got bins from 1393020866")
    refused(DATA / "lcurveA.fits", "errors of the rates must be positive, got 382")
    refused(DATA / "LightCurve_bexvar.fits", "band must be 0 to 2 for this file, got 3", band=3)
    refused(DATA / "LightCurve_bexvar.fits", "band must be 0 to 2 for this file, got -1", band=-1)


@pytest.mark.parametrize("n_bytes", [9, 400, 2880, 6000, 9000, 20000])
@pytest.mark.parametrize("name", ["monol_testA.evt", "LightCurve_bexvar.fits"])
def test_refuses_truncated_fits(write, name, n_bytes):
    refused(write((DATA / name).read_bytes()[:n_bytes], "cut.fits"), r"cut.fits must|at least 2")


def test_refuses_truncated_gzip_fits(write):
    refused(write((DATA / "xte_test.evt.gz").read_bytes()[:5000], "cut.evt.gz"), "must be a whole FITS file")


def test_refuses_corrupt_fits_headers(write):
    good = (DATA / "monol_testA.evt").read_bytes()
    for old, new in (
        (b"NAXIS2  =                 1000", b"NAXIS2  =                 abcd"),
        (b"TFORM1  = '1D", b"TFORM1  = '1?"),
    ):
        assert old in good
        refused(write(good.replace(old, new), "bad.fits"), "bad.fits must")


EVENT_TIMES = 100.0 + np.arange(50.0)


@pytest.mark.parametrize(
    ("times", "gti", "match"),
    [
        ([], [[0, 1]], "must hold events, got none"),
        ([1, np.nan, 3], [[0, 4]], "event times must be finite, got 1 NaN"),
        ([5, 5], None, "event times must differ, got 2"),
        (EVENT_TIMES, [], "GTI. must number at least 1, got an empty list"),
        (EVENT_TIMES, [[150, 100]], "GTI. must end after they start, got a length of -50 s in interval 1 of 1"),
        (EVENT_TIMES, [[100, 120], [130, 130]], "must end after they start, got a length of 0 s in interval 2 of 2"),
        (EVENT_TIMES, [[100, 120], [110, 150]], "must not overlap, got intervals 1 and 2 in time sharing 10 s"),
        (EVENT_TIMES, [[100, np.nan]], "GTI. must be finite"),
        (EVENT_TIMES, [[1000, 2000]], "GTI. must cover the events"),
    ],
)
def test_refuses_events(write_fits, times, gti, match):
    refused(write_fits({"TIME": np.array(times, float)}, "EVENTS", gti=gti), match)


@pytest.mark.parametrize(
    ("dt", "match"),
    [
        (60.0, "shorter than the observation of 49 s, got 60"),
        (1e-6, "at most 1048576 bins, got 49000000 with dt = 1e-06 s over 49 s; pass --dt 4.7e-05 or larger"),
        (np.inf, "dt must be positive"),
    ],
)
def test_refuses_bin_widths_of_events(dt, match):
    with pytest.raises(InputError, match=match):
        bin_events(events(EVENT_TIMES - 100, [[0, 49]]), dt)


def test_refuses_intervals_shorter_than_a_bin():
    gti = [[i, i + 0.5] for i in range(10)]
    with pytest.raises(InputError, match="fully inside good time, got none of 9 bins of 1 s"):
        trim(bin_events(events(np.arange(10.0), gti), 1.0))


@pytest.mark.parametrize(
    ("changes", "header", "match"),
    [
        ({"ERROR": None}, {}, "rates must come with errors"),
        ({"ERROR": np.full(6, -1.0)}, {}, "errors of the rates must be positive, got 6"),
        ({"RATE": np.full(6, np.nan)}, {}, "at least one bin must be exposed, got none of 6"),
        ({"RATE": [1, np.inf, 1, 1, 1, 1]}, {}, "rates must be finite"),
        ({"FRACEXP": np.full(6, 2.0)}, {}, "FRACEXP must be 0 to 1, got 2 to 2"),
        ({"TIMEDEL": [1, 1, 1, 2, 2, 3]}, {}, "equally wide, got TIMEDEL from 1 to 3"),
        ({}, {"TIMEDEL": -1.0}, "TIMEDEL must be positive"),
        ({}, {"TIMEUNIT": "yr", "TIMEZERO": 1.0}, "TIMEUNIT must be in s or d, got 'yr'"),
        ({"TIME": [0, 1, 2, 2, 3, 4]}, {}, "times must differ"),
        ({"TIME": [0, 1, 2, np.nan, 3, 4]}, {}, "times must be finite"),
        ({"COUNTS": [1, 1, 1, 1, 2, np.nan]}, {}, "counts must be finite"),
        (
            {"COUNTS": np.ones(6), "BACK_COUNTS": np.full(6, 3.0), "BACKRATIO": np.ones(6)},
            {},
            "mean source counts must be positive after background, got -2 per bin; check the background",
        ),
        ({"COUNTS": np.ones(6), "BACK_COUNTS": np.ones(6)}, {}, "BACK_COUNTS must come with BACKRATIO"),
        ({"COUNTS": np.ones(6), "BACK_COUNTS": -np.ones(6), "BACKRATIO": np.ones(6)}, {}, "must not be negative"),
    ],
)
def test_refuses_fits_light_curves(write_fits, changes, header, match):
    columns = {"TIME": np.arange(6.0), "RATE": np.ones(6), "ERROR": np.ones(6)} | changes
    path = write_fits({k: np.asarray(v, float) for k, v in columns.items() if v is not None}, header=header)
    refused(path, match)
