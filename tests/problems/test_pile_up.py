"""Pile-up in frames: simulated counts against frames drawn one by one, their law against Davis's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.problems import pile_up
from eagleray.problems.pile_up import EnergyEvents
from eagleray.records import EventList

FRAME = 0.5
THETA = {"rate": 2.0, "photon_index": 1.4, "alpha": 0.7}
OTHER = {"rate": 1.2, "photon_index": 2.5, "alpha": 0.3}
SETTINGS = {"frame_time": FRAME, "channel_width": 1.0, "lowest": 2.0, "highest": 9.0}


def observed(n_frames=600, seed=0) -> EnergyEvents:
    """Events of frames drawn one by one."""
    rng = np.random.default_rng(seed)
    frames, energies = [], []
    for frame in range(n_frames):
        energy = one_frame(rng, THETA)
        if energy:
            frames.append(frame)
            energies.append(energy + rng.uniform(-0.4, 0.4))
    times = (np.asarray(frames) + 1.0) * FRAME
    gti = np.asarray([[0.0, n_frames * FRAME]])
    return EnergyEvents(times=times, gti=gti, energies=np.asarray(energies), start=1e8, source="made up")


def one_frame(rng, theta):
    """Energy recorded of one frame; 0 if none is."""
    numbers = np.arange(2, 10)
    law = numbers ** -theta["photon_index"]
    n = rng.poisson(theta["rate"] * FRAME)
    energy = rng.choice(numbers, n, p=law / law.sum()).sum() if n else 0
    return energy if n and rng.random() < theta["alpha"] ** (n - 1) and energy <= 18 else 0


def closed_form(theta, n_channels=17):
    """Davis's generating function: exp(-m) (exp(alpha m phi) - 1) / alpha, phi that of one photon."""
    law = np.zeros(256)
    law[2:10] = np.arange(2, 10) ** -theta["photon_index"]
    m = theta["rate"] * FRAME
    phi = np.fft.fft(law / law.sum())
    return np.fft.ifft(np.exp(-m) * np.expm1(theta["alpha"] * m * phi) / theta["alpha"]).real[2 : 2 + n_channels]


@pytest.fixture(scope="module")
def problem():
    return pile_up.make(observed(), **SETTINGS)


@pytest.mark.parametrize("theta", [THETA, OTHER, {"rate": 10.0, "photon_index": 1.0, "alpha": 1.0}])
def test_law_of_a_frame_is_the_closed_form(theta):
    law = np.arange(2, 10) ** -theta["photon_index"]
    with jax.enable_x64(True):
        found = pile_up.piled_law(
            jnp.asarray(law / law.sum()), theta["rate"] * FRAME, theta["alpha"], pile_up.Channels(1.0, 2, 9), 30
        )
    np.testing.assert_allclose(found, closed_form(theta), rtol=1e-9, atol=1e-14)


def test_frames_drawn_one_by_one_have_that_law():
    rng = np.random.default_rng(3)
    energies = np.asarray([one_frame(rng, THETA) for _ in range(20_000)])
    law = closed_form(THETA)
    expected = 20_000 * np.concatenate([law, [1 - law.sum()]])
    found = np.concatenate([np.bincount(energies, minlength=19)[2:], [(energies == 0).sum()]])
    assert stats.chisquare(found, expected).pvalue > 1e-5


@pytest.mark.parametrize("theta", [THETA, OTHER])
def test_simulated_counts_have_that_law(problem, theta):
    many = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
    data = np.asarray(many(jax.random.split(jax.random.key(2), 500), {k: jnp.float32(v) for k, v in theta.items()}))
    law = closed_form(theta)
    found = np.concatenate([data.sum(0), [500 * 600 - data.sum()]])
    assert stats.chisquare(found, 500 * 600 * np.concatenate([law, [1 - law.sum()]])).pvalue > 1e-5
    # Multinomial, not only on average.
    spread = data.var(axis=0, ddof=1) / (600 * law * (1 - law))
    assert np.abs(spread - 1).max() < 0.45  # 5.5 standard errors, those of rare channels widened by their skewness
    total = data.sum(1).var(ddof=1) / (600 * law.sum() * (1 - law.sum()))
    assert abs(total - 1) < 5 * np.sqrt(2 / 500)


def test_likelihood_is_the_multinomial_one(problem):
    likelihood = jax.jit(problem.log_likelihood)
    counts = np.asarray(problem.observed, int)
    values = []
    for theta in (THETA, OTHER):
        law = closed_form(theta)
        full = stats.multinomial(600, np.concatenate([law, [1 - law.sum()]]))
        exact = full.logpmf(np.concatenate([counts, [600 - counts.sum()]]))
        values.append(likelihood({k: jnp.float32(v) for k, v in theta.items()}, problem.observed) - exact)
    np.testing.assert_allclose(values[0], values[1], atol=2e-3)


def test_likelihood_is_that_of_the_simulator(problem):
    scores = scores_of(problem, n=1000)
    for theta in (THETA, OTHER):
        found = scores(theta)
        assert found.mean < 4.5  # false alarm 2e-5 for three parameters
        assert found.information < 4.5  # 4e-5


def test_likelihood_without_pile_up_is_found_out(problem):
    def alone(theta, data):
        law = jax.nn.softmax(-theta["photon_index"] * jnp.log(jnp.arange(2.0, 10.0)))
        event = -jnp.expm1(-theta["rate"] * FRAME)
        return (data[:8] * jnp.log(law * event)).sum() - (600 - data[:8].sum()) * theta["rate"] * FRAME

    known = pile_up.make(observed(), {"alpha": "fixed(0.7)"}, **SETTINGS)
    free = {name: THETA[name] for name in known.prior.names}
    assert scores_of(known, n=300, log_likelihood=alone)(free).mean > 10.0

    def lenient(theta, data):
        return problem.log_likelihood(theta | {"alpha": jnp.sqrt(theta["alpha"])}, data)

    assert scores_of(problem, n=300, log_likelihood=lenient)(THETA).mean > 6.0


def test_observation_prior_and_settings(problem):
    events = observed()
    counts = np.bincount(np.rint(events.energies).astype(int), minlength=19)[2:]
    np.testing.assert_array_equal(problem.observed, counts)
    assert list(problem.prior.names) == ["rate", "photon_index", "alpha"]
    assert problem.prior.lower_end("rate") < 2.0 < problem.prior.upper_end("rate")
    x, energies = np.asarray(problem.summary(problem.observed)), problem.summary.panel.axis
    shown = problem.summary.shown(x)
    # Single channels as far as photons reach and one more, pairs above.
    np.testing.assert_allclose(energies, [*range(2, 11), 11.5, 13.5, 15.5, 17.5])
    np.testing.assert_allclose(shown[:9], counts[:9], atol=1e-3)
    np.testing.assert_allclose(2 * shown[9:], counts[9:].reshape(4, 2).sum(1), atol=1e-3)
    assert len(problem.summary.names) == x.size
    assert np.isfinite(problem.summary(0.0 * problem.observed)).all()
    standard = pile_up.make(pile_up.standard())
    assert standard.prior.texts["rate"] == "loguniform(0.0625, 0.5)"
    assert standard.observed.shape == (63,)
    fixed = pile_up.make(events, {"alpha": "fixed(1)", "rate": "uniform(1, 3)"}, **SETTINGS)
    assert fixed.prior.names == ("rate", "photon_index")
    assert fixed.signature() != problem.signature()


def test_what_does_not_suit_is_refused():
    events = observed()

    def replaced(**changes):
        given = {"times": events.times, "gti": events.gti, "energies": events.energies}
        return EnergyEvents(**given | changes)

    def make(events, prior=None, **settings):
        return pile_up.make(events, prior, **SETTINGS | settings)

    with pytest.raises(InputError, match="needs the energy of each event, got EventList, which has none; give"):
        make(EventList(times=events.times, gti=events.gti))
    with pytest.raises(InputError, match="energies must be one for each of"):
        make(replaced(energies=events.energies[1:]))
    with pytest.raises(InputError, match="at least 50 events, got 49"):
        make(replaced(times=events.times[:49], energies=events.energies[:49]))
    with pytest.raises(InputError, match="one to a frame, got two 0.5 s apart with frame_time 2 s; take the"):
        make(events, frame_time=2.0)
    with pytest.raises(InputError, match="frame_time must be positive"):
        make(events, frame_time=0.0)
    with pytest.raises(InputError, match="channels need 0 < channel_width <= lowest < highest"):
        make(events, lowest=9.0)
    with pytest.raises(InputError, match="2 to 400 channels between lowest and highest, got 8001"):
        make(events, channel_width=1e-3, highest=10.0)
    with pytest.raises(InputError, match="prior of rate must end at 20 counts/s, 10 photons in a frame, or below"):
        make(events, {"rate": "lognormal(0, 1)"})
    with pytest.raises(InputError, match="prior of alpha must stay between 0 and 1"):
        make(events, {"alpha": "uniform(0, 2)"})
