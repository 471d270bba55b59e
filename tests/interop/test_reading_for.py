"""Files as a problem takes them: one or two, events or light curves."""

import gzip

import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.interop.reading import light_curve_of, read_events, read_for
from eagleray.records import EventList, LightCurve

TIMES = np.sort(np.random.default_rng(0).uniform(0, 50, 400))


@pytest.fixture
def files(tmp_path):
    """Two lists of event times, the second from a later start; two light curves, and one in other bins."""

    def write(name, rows):
        text = "\n".join(" ".join(f"{word:.9f}" for word in row) for row in rows) + "\n"
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return tmp_path / name

    rows = [(float(i), 3.0 + i % 3) for i in range(30)]
    return {
        "a": write("a.txt", TIMES[:, None]),
        "b": write("b.txt.gz", TIMES[50:, None] + 0.001),
        "soft": write("soft.txt", rows),
        "hard": write("hard.txt", [(t, n + 1) for t, n in rows]),
        "coarse": write("coarse.txt", [(2 * t, n) for t, n in rows]),
    }


def test_events_of_one_detector(files):
    events = read_for([files["a"]], "events")
    assert isinstance(events, EventList)
    assert events.times.size == 400
    np.testing.assert_allclose(events.times + events.start, TIMES, atol=1e-6)
    assert isinstance(read_events(files["a"]), EventList)


def test_detectors_share_one_start(files):
    first, second = read_for([files["a"], files["b"]], "events of two detectors")
    assert first.start == second.start
    np.testing.assert_allclose(first.times + first.start, TIMES, atol=1e-6)
    np.testing.assert_allclose(second.times + second.start, TIMES[50:] + 0.001, atol=1e-6)
    assert second.times[0] > 1.0


def test_one_detector_will_do_where_two_are_taken(files):
    assert isinstance(read_for([files["a"]], "events of two detectors"), EventList)


def test_two_bands(files):
    soft, hard = read_for([files["soft"], files["hard"]], "light curves in two bands")
    assert isinstance(soft, LightCurve)
    np.testing.assert_array_equal(hard.values, soft.values + 1)


@pytest.mark.parametrize(
    ("names", "takes", "options", "message"),
    [
        (("a", "b"), "events", {}, "takes events, got 2 files; give 1"),
        (("soft",), "light curves in two bands", {}, "takes light curves in two bands, got 1 files; give 2"),
        (("soft", "coarse"), "light curves in two bands", {}, "same bins, got 30 of 1 s .* and 30 of 2 s"),
        (("soft",), "events", {}, "soft.txt must hold events, got a light curve"),
        (("a",), "events", {"dt": 0.5}, "dt must be left out for a problem that takes events, got 0.5"),
    ],
)
def test_what_does_not_suit_is_refused(files, names, takes, options, message):
    with pytest.raises(InputError, match=message):
        read_for([files[name] for name in names], takes, **options)


def test_every_observation_can_be_shown(files):
    events = read_for([files["a"]], "events")
    shown = light_curve_of(events)
    assert isinstance(shown, LightCurve)
    assert shown.values.sum() > 390
    both = read_for([files["a"], files["b"]], "events of two detectors")
    assert light_curve_of(both).notes[-1] == "shown is the first of 2"
    curve = read_for([files["soft"]], "light curve")
    assert light_curve_of(curve) is curve
