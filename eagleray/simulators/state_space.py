"""Gaussian processes with rational spectra on irregular times: exact steps from one time to the next.

Times are offsets [s] in increasing order. The cost grows as the number of times, whatever their spacing, and nothing is
approximated: the state at the next time is a known linear map of the present one plus noise of known covariance.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.records import Key
from eagleray.simulators.semidefinite import semidefinite_cholesky


def damped_random_walk(
    key: Key, times: Float[Array, " n"], *, sigma: Float[Array, ""], tau: Float[Array, ""]
) -> Float[Array, " n"]:
    """Draw a damped random walk (Ornstein-Uhlenbeck process), autocovariance sigma^2 exp(-|t| / tau).

    Args:
        key: Typed PRNG key; consumed.
        times: (n,) increasing times [s], as offsets.
        sigma: Standard deviation of the process, in the series' units.
        tau: Damping time [s].

    Returns:
        (n,) series of zero mean.

    References:
        Kelly, Bechtold & Siemiginowska (2009), ApJ 698, 895, equations 1 and A1-A4.
    """
    steps = jnp.diff(times) / tau
    decay = jnp.concatenate([jnp.zeros_like(times[:1]), jnp.exp(-steps)])
    spread = jnp.concatenate([jnp.ones_like(times[:1]), jnp.sqrt(-jnp.expm1(-2.0 * steps))])
    noise = sigma * spread * jax.random.normal(key, times.shape, times.dtype)

    def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        factor, kick = inputs
        state = factor * state + kick
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(sigma), (decay, noise))[1]


def damped_oscillator(
    key: Key, times: Float[Array, " n"], *, sigma: Float[Array, ""], freq: Float[Array, ""], quality: Float[Array, ""]
) -> Float[Array, " n"]:
    """Draw a damped harmonic oscillator driven by white noise (the SHO term of celerite).

    One-sided spectrum P(f) = 4 sigma^2 / (w0 Q) / ((x^2 - 1)^2 + x^2 / Q^2), x = f / freq, w0 = 2 pi freq: a
    quasi-periodic oscillation for Q > 1/2, band-limited noise below; smooth through critical damping.

    Args:
        key: Typed PRNG key; consumed.
        times: (n,) increasing times [s], as offsets.
        sigma: Standard deviation of the process, in the series' units.
        freq: Undamped frequency [Hz].
        quality: Quality factor Q.

    Returns:
        (n,) series of zero mean.

    References:
        Foreman-Mackey, Agol, Ambikasaran & Angus (2017), AJ 154, 220, equations 19-24.
    """
    steps = 2.0 * math.pi * freq * jnp.diff(times)
    transitions = _oscillator_transition(steps, quality)
    # The state is (velocity / w0, position) / sigma, whose stationary covariance is the unit matrix.
    first = jnp.eye(2, dtype=times.dtype)[None]
    factors = semidefinite_cholesky(_oscillator_noise(steps, quality, transitions))
    return sigma * _walk(key, transitions, jnp.concatenate([first, factors]), times)[:, 1]


def oscillator_covariance(
    lag: Float[Array, " n"], *, sigma: Float[Array, ""], freq: Float[Array, ""], quality: Float[Array, ""]
) -> Float[Array, " n"]:
    """Autocovariance of the damped oscillator.

    Args:
        lag: (n,) time lags [s].
        sigma: Standard deviation of the process.
        freq: Undamped frequency [Hz].
        quality: Quality factor Q.

    Returns:
        (n,) autocovariance.

    References:
        Foreman-Mackey et al. (2017), AJ 154, 220, equation 23.
    """
    return sigma**2 * _oscillator_transition(2.0 * math.pi * freq * jnp.abs(lag), quality)[:, 1, 1]


def carma(
    key: Key,
    times: Float[Array, " n"],
    *,
    sigma: Float[Array, ""],
    decay_rates: Float[Array, " n_real"],
    widths: Float[Array, " n_pairs"],
    freqs: Float[Array, " n_pairs"],
    moving_average: Float[Array, " q"],
) -> Float[Array, " n"]:
    """Draw a continuous autoregressive moving-average process CARMA(p, q), p = n_real + 2 n_pairs, q < p.

    The autoregressive polynomial is given by its roots, which say what the process looks like: a real root -r is a
    Lorentzian of half width r / (2 pi) centred on zero, a pair -pi w +- 2 pi i f one of full width w around f. The
    roots must differ: with two equal ones the result is NaN.

    Args:
        key: Typed PRNG key; consumed.
        times: (n,) increasing times [s], as offsets.
        sigma: Standard deviation of the process, in the series' units.
        decay_rates: (n_real,) decay rates of the real roots [1/s].
        widths: (n_pairs,) full widths of the oscillations [Hz].
        freqs: (n_pairs,) frequencies of the oscillations [Hz].
        moving_average: (q,) coefficients beta_1 to beta_q of 1 + beta_1 s + ... + beta_q s^q [s, s^2, ...].

    Returns:
        (n,) series of zero mean.

    Raises:
        ValueError: If q >= p.

    References:
        Kelly et al. (2014), ApJ 788, 33, equations 1-5; the process is walked in the eigenvectors of its state.
    """
    roots, readout, variance = _carma_modes(decay_rates, widths, freqs, moving_average)
    steps = jnp.diff(times)
    transitions = _mode_transition(steps, roots, decay_rates.shape[0])
    first = semidefinite_cholesky(_mode_noise(None, roots, decay_rates.shape[0]))[None]
    factors = semidefinite_cholesky(_mode_noise(steps, roots, decay_rates.shape[0]))
    states = _walk(key, transitions, jnp.concatenate([first, factors]), times)
    return sigma * states @ (readout / jnp.sqrt(variance))


def carma_covariance(
    lag: Float[Array, " n"],
    *,
    sigma: Float[Array, ""],
    decay_rates: Float[Array, " n_real"],
    widths: Float[Array, " n_pairs"],
    freqs: Float[Array, " n_pairs"],
    moving_average: Float[Array, " q"],
) -> Float[Array, " n"]:
    """Autocovariance of the CARMA process.

    Args:
        lag: (n,) time lags [s].
        sigma: Standard deviation of the process.
        decay_rates: (n_real,) decay rates of the real roots [1/s].
        widths: (n_pairs,) full widths of the oscillations [Hz].
        freqs: (n_pairs,) frequencies of the oscillations [Hz].
        moving_average: (q,) coefficients beta_1 to beta_q.

    Returns:
        (n,) autocovariance; sigma^2 at lag zero.

    Raises:
        ValueError: If q >= p.

    References:
        Kelly et al. (2014), ApJ 788, 33, equation 4.
    """
    roots, readout, variance = _carma_modes(decay_rates, widths, freqs, moving_average)
    n_real = decay_rates.shape[0]
    stationary = _mode_noise(None, roots, n_real)
    return sigma**2 * (_mode_transition(jnp.abs(lag), roots, n_real) @ stationary @ readout) @ readout / variance


def carma_spectrum(
    freq: Float[Array, " n"],
    *,
    sigma: Float[Array, ""],
    decay_rates: Float[Array, " n_real"],
    widths: Float[Array, " n_pairs"],
    freqs: Float[Array, " n_pairs"],
    moving_average: Float[Array, " q"],
) -> Float[Array, " n"]:
    """One-sided power spectrum of the CARMA process.

    Args:
        freq: (n,) positive frequencies [Hz].
        sigma: Standard deviation of the process.
        decay_rates: (n_real,) decay rates of the real roots [1/s].
        widths: (n_pairs,) full widths of the oscillations [Hz].
        freqs: (n_pairs,) frequencies of the oscillations [Hz].
        moving_average: (q,) coefficients beta_1 to beta_q.

    Returns:
        (n,) power; its integral over all positive frequencies is sigma^2.

    Raises:
        ValueError: If q >= p.

    References:
        Kelly et al. (2014), ApJ 788, 33, equation 3.
    """
    roots, _, variance = _carma_modes(decay_rates, widths, freqs, moving_average)
    s = jax.lax.complex(jnp.zeros_like(freq), 2.0 * math.pi * freq)
    below = jnp.prod(s[:, None] - _all_roots(roots, decay_rates.shape[0])[None], -1)
    above = _moving_average(s, moving_average)
    return 2.0 * sigma**2 * jnp.abs(above / below) ** 2 / variance


def _walk(key: Key, transitions: Array, factors: Array, times: Array) -> Array:
    """States at all times, from the maps between them and the factors of the noise covariance at each."""
    m = factors.shape[-1]
    normals = jax.random.normal(key, (times.shape[0], m), times.dtype)
    kicks = jnp.einsum("nij,nj->ni", factors, normals)

    def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        transition, kick = inputs
        # A matrix product on purpose: with `jnp.sum(transition * state, -1)` here XLA's CPU backend (jax 0.10.2) gives
        # wrong numbers for batches above 32768 / 3; test_draws_have_the_covariance sees it.
        state = transition @ state + kick
        return state, state

    transitions = jnp.concatenate([jnp.zeros_like(factors[:1]), transitions])
    return jax.lax.scan(step, jnp.zeros_like(kicks[0]), (transitions, kicks))[1]


def _sine_and_cosine(steps: Array, quality: Array) -> tuple[Array, Array]:
    """cos(b t) and sin(b t) / b with b^2 = 1 - 1 / (4 Q^2) of either sign, times exp(-t / (2 Q))."""
    square = 1.0 - 1.0 / (4.0 * quality * quality)
    argument = square * steps * steps
    small, under = jnp.abs(argument) < 1e-3, argument > 0
    root = jnp.sqrt(jnp.where(small, 1.0, jnp.abs(argument)))
    damping = steps / (2.0 * quality)
    decay = jnp.exp(-damping)
    # Overdamped: the growing exponential is taken together with the decay, which always wins.
    slow, fast = jnp.exp(jnp.where(under, 0.0, root) - damping), jnp.exp(-root - damping)
    cosine = jnp.where(under, jnp.cos(root) * decay, 0.5 * (slow + fast))
    sine = jnp.where(under, jnp.sin(root) * decay, 0.5 * (slow - fast)) / root
    cosine_series = decay * (1.0 - argument / 2.0 + argument * argument / 24.0)
    sine_series = decay * (1.0 - argument / 6.0 + argument * argument / 120.0)
    return jnp.where(small, cosine_series, cosine), steps * jnp.where(small, sine_series, sine)


def _oscillator_transition(steps: Array, quality: Array) -> Array:
    """(n, 2, 2) maps of (velocity, position) over steps in units of 1 / w0."""
    cosine, sine = _sine_and_cosine(steps, quality)
    half = sine / (2.0 * quality)
    return jnp.stack([jnp.stack([cosine - half, -sine], -1), jnp.stack([sine, cosine + half], -1)], -2)


def _oscillator_noise(steps: Array, quality: Array, transitions: Array) -> Array:
    """(n, 2, 2) covariance gathered during each step.

    It is 1 - A A^T, which for short steps is all rounding; there the integral of the response to each past kick is
    done by quadrature, a sum of squares. Velocity comes first because its noise is the larger: the factor that
    follows then starts from the better-known entry.
    """
    exact = jnp.eye(2, dtype=steps.dtype)[None] - jnp.einsum("nij,nkj->nik", transitions, transitions)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    places, weights = (jnp.asarray(x, steps.dtype) for x in (0.5 * (1.0 + nodes), 0.5 * weights))
    responses = jax.vmap(lambda place: _oscillator_transition(steps * place, quality)[:, :, 0])(places)
    total = jnp.einsum("k,kni,knj->nij", weights, responses, responses)
    short = (steps * (1.0 + 1.0 / quality) < 0.3)[:, None, None]
    return jnp.where(short, (2.0 / quality) * steps[:, None, None] * total, exact)


def _carma_modes(decay_rates: Array, widths: Array, freqs: Array, moving_average: Array) -> tuple[Array, Array, Array]:
    """Roots (one of each pair), the readout vector of the real modal state, and the variance for unit driving noise."""
    n_real, n_pairs, q = decay_rates.shape[0], freqs.shape[0], moving_average.shape[0]
    if q >= n_real + 2 * n_pairs:
        raise ValueError(f"moving_average must have fewer than p = {n_real + 2 * n_pairs} entries, got {q}")
    roots = jnp.concatenate(
        [
            jax.lax.complex(-decay_rates, jnp.zeros_like(decay_rates)),
            jax.lax.complex(-math.pi * widths, 2.0 * math.pi * freqs),
        ]
    )
    every = _all_roots(roots, n_real)
    difference = roots[:, None] - every[None]
    itself = jnp.arange(roots.shape[0])[:, None] == jnp.arange(every.shape[0])[None]
    residues = _moving_average(roots, moving_average) / jnp.prod(jnp.where(itself, 1.0, difference), -1)
    pairs = residues[n_real:]
    readout = jnp.concatenate([residues[:n_real].real, 2.0 * pairs.real, -2.0 * pairs.imag])
    variance = readout @ _mode_noise(None, roots, n_real) @ readout
    return roots, readout, variance


def _all_roots(roots: Array, n_real: int) -> Array:
    """The roots with the conjugates of the complex ones."""
    return jnp.concatenate([roots, roots[n_real:].conj()])


def _moving_average(s: Array, coefficients: Array) -> Array:
    """The polynomial 1 + beta_1 s + beta_2 s^2 + ..., by Horner's rule."""
    total = jnp.zeros_like(s)
    for k in reversed(range(coefficients.shape[0])):
        total = (total + coefficients[k].astype(s.dtype)) * s
    return total + 1.0


def _mode_transition(steps: Array, roots: Array, n_real: int) -> Array:
    """(n, p, p) maps of the modal state (real modes, real parts of the pairs, imaginary parts of the pairs)."""
    factor = jnp.exp(steps[:, None].astype(roots.dtype) * roots[None])
    n_pairs = roots.shape[0] - n_real
    diagonal = jax.vmap(jnp.diag)(jnp.concatenate([factor.real, factor.real[:, n_real:]], -1))
    turn = jax.vmap(jnp.diag)(factor.imag[:, n_real:])
    upper = jnp.pad(-turn, ((0, 0), (n_real, n_pairs), (n_real + n_pairs, 0)))
    lower = jnp.pad(turn, ((0, 0), (n_real + n_pairs, 0), (n_real, n_pairs)))
    return diagonal + upper + lower


def _mode_noise(steps: Array | None, roots: Array, n_real: int) -> Array:
    """(n, p, p) covariance of the noise gathered in each step by modes dz = r z dt + dW; None: after infinite time.

    With z complex, E[z_i z_j] and E[z_i z_j^*] hold what the covariances of real and imaginary parts need.
    """

    def gathered(total: Array) -> Array:
        if steps is None:
            return -1.0 / total
        return jnp.expm1(steps[:, None, None].astype(total.dtype) * total[None]) / total[None]

    plain = gathered(roots[:, None] + roots[None, :])
    crossed = gathered(roots[:, None] + roots[None, :].conj())
    real_real = 0.5 * (crossed + plain).real
    imaginary_imaginary = 0.5 * (crossed - plain).real[..., n_real:, n_real:]
    imaginary_real = 0.5 * (crossed + plain).imag[..., n_real:, :]
    top = jnp.concatenate([real_real, jnp.swapaxes(imaginary_real, -1, -2)], -1)
    bottom = jnp.concatenate([imaginary_real, imaginary_imaginary], -1)
    return jnp.concatenate([top, bottom], -2)
