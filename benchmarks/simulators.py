"""Simulators against Stingray: `python -m benchmarks.simulators --json FILE [--quick] [--figure FILE]`.

Everything runs in fresh processes, once with one thread and once with all cores. Both sides draw from the same law,
which each entry checks on its own draws (`agreement`: largest z-score of mean powers, rms and the like, 5 allowed).
Ratios are Stingray's CPU seconds over ours, in float32, compilation apart. On a GPU ours are wall seconds.
docs/simulator_speed.md says what comes out and why.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import machine_facts, measure, measure_in_turn, one_thread_environment

MEAN, RMS = 100.0, 0.2
# Numbers per call: 2^18, the quickest that CPU caches allow.
BATCHES = {1024: 256, 8192: 64, 65536: 8}
REPEATS = 7

# Black-hole binary in the manner of Huppenkothen & Bachetti (2022): a QPO behind NuSTAR's dead time.
DURATION, RATE, DEAD_TIME = 10.0, 400.0, 2.5e-3
QPO_FREQ, QPO_Q, QPO_RMS = 20.0, 5.0, 0.2
FINE, COARSE, BIN, SEGMENTS, REBIN = 1e-4, 2.5e-3, 5e-4, 10, 0.03


class Comparison:
    """Draws and timings of one thread setting, with lazily imported JAX and, where there is one, Stingray."""

    def __init__(self, quick: bool) -> None:
        """Import what is timed, in an environment that already says how many threads there are."""
        import jax

        try:
            import stingray.simulator  # noqa: F401
        except ImportError:
            self.has_stingray = False
        else:
            self.has_stingray = True
        warnings.filterwarnings("ignore", message=".*(SIMON|counts < 0).*")
        self.jax = jax
        self.quick = quick
        self.repeats = 5 if quick else REPEATS
        self.at_least = 0.05 if quick else 0.2
        self.on_gpu = jax.default_backend() == "gpu"
        self.key = jax.random.key(2026)

    def compiled(self, function: Callable, *args: Any, **options: Any) -> tuple[Callable, float]:
        """Compile for these arguments; also the wall seconds that took."""
        start = time.perf_counter()
        compiled = self.jax.jit(function, compiler_options=options or None).lower(*args).compile()
        return compiled, time.perf_counter() - start

    def entry(
        self, theirs: Callable[[], Any] | None, n_theirs: int, ours: Callable, args: tuple, batch: int, **more: Any
    ) -> dict:
        """Time both sides in turn, per light curve; `more` holds what else the entry says."""
        self.jax.clear_caches()
        compiled, compile_s = self.compiled(ours, *args)
        runs = {"ours": lambda: self.jax.block_until_ready(compiled(*args))}
        if theirs is not None:
            runs["theirs"] = theirs
        times = measure_in_turn(runs, repeats=self.repeats, at_least=self.at_least)
        clock = "wall" if self.on_gpu else "cpu"
        mine = times["ours"][clock] / batch
        found: dict[str, Any] = {
            "ratio": None,
            "stingray_cpu_s": None,
            "eagleray_cpu_s": times["ours"]["cpu"] / batch,
            "eagleray_cpu_min_s": times["ours"]["cpu_min"] / batch,
            "eagleray_wall_s": times["ours"]["wall"] / batch,
            "clock": clock,
            "batch": batch,
            "compile_s": compile_s,
        }
        if theirs is not None:
            other = times["theirs"]["cpu"] / n_theirs
            found |= {"stingray_cpu_s": other, "stingray_wall_s": times["theirs"]["wall"] / n_theirs}
            found["ratio"] = other / mine
        return found | more

    def time_ours(self, function: Callable, args: tuple, batch: int, **options: Any) -> float:
        """Seconds per light curve of one more way to do it, by the entry's clock."""
        compiled, _ = self.compiled(function, *args, **options)
        run = lambda: self.jax.block_until_ready(compiled(*args))  # noqa: E731
        found = measure(run, repeats=self.repeats, at_least=self.at_least)
        return found["wall" if self.on_gpu else "cpu"] / batch


def agreement(ours: Any, theirs: Any) -> dict[str, float | bool]:
    """Compare the means of two samples, shape (draws, statistics): largest z-score; constants must be equal to 1e-4."""
    import numpy as np

    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    difference = ours.mean(0) - theirs.mean(0)
    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
    scale = np.abs(theirs.mean(0))
    constant = (error < 1e-5 * scale) & (np.abs(difference) < 1e-4 * scale)
    z = np.where(constant, 0.0, difference / np.where(constant, 1.0, error))
    return {
        "largest_z": float(np.abs(z).max()),
        "rms_z": float(np.sqrt((z**2).mean())),
        "n_statistics": int(z.size),
        "draws": [len(ours), len(theirs)],
        "agree": bool(np.abs(z).max() < 5.0),
    }


def band_statistics(curves: Any) -> Any:
    """Mean, rms and the mean powers in bands an octave wide, Nyquist left out, of each light curve."""
    import numpy as np

    curves = np.asarray(curves, np.float64)
    n = curves.shape[1]
    mean = curves.mean(1)
    power = np.abs(np.fft.rfft(curves, axis=1)[:, 1 : (n + 1) // 2]) ** 2
    edges = [0, *(2**k for k in range(int(math.log2(power.shape[1])) + 1))]
    bands = [power[:, low:high].mean(1) for low, high in zip(edges, edges[1:], strict=False) if high > low]
    return np.stack([mean, curves.std(1) / mean, *bands], axis=1)


def red_noise(bench: Comparison, n: int, normalisation: str) -> Callable:
    """Our light curve of n bins, its own slope for each draw."""
    import jax.numpy as jnp

    from eagleray.simulators.light_curves import timmer_koenig_light_curve
    from eagleray.simulators.shapes import power_law
    from eagleray.simulators.timmer_koenig import fourier_frequencies

    freq = jnp.asarray(fourier_frequencies(n, 1.0), jnp.float32)

    def draw(key: Any, slope: Any) -> Any:
        return timmer_koenig_light_curve(
            key,
            power_law(freq, slope=slope),
            mean=jnp.float32(MEAN),
            rms=jnp.float32(RMS),
            n_bins=n,
            n_long=n,
            dt=1.0,
            normalisation=normalisation,
        )

    return draw


def stingray_red_noise(n: int, poisson: bool) -> Callable[[], Any]:
    """Stingray's light curve of n bins."""
    from stingray.simulator import Simulator

    simulator = Simulator(dt=1.0, N=n, mean=MEAN, rms=RMS, poisson=poisson)
    return lambda: simulator.simulate(2.0).counts


def keys_and_slopes(bench: Comparison, batch: int) -> tuple[Any, Any]:
    """Arguments of `red_noise`, a key and a slope for each draw."""
    import jax.numpy as jnp

    return bench.jax.random.split(bench.key, batch), jnp.full(batch, 2.0, jnp.float32)


def timmer_koenig(bench: Comparison, n: int) -> dict:
    """Gaussian red noise: normalised as Stingray does, realisation by realisation, and our default way."""
    import numpy as np

    jax = bench.jax
    batch = BATCHES[n] * (64 if bench.on_gpu else 1)
    args = keys_and_slopes(bench, batch)
    ours = jax.vmap(red_noise(bench, n, "realised"))
    process = jax.vmap(red_noise(bench, n, "process"))
    more: dict[str, Any] = {"eagleray_process_s": bench.time_ours(process, args, batch)}
    if not bench.on_gpu:
        more["eagleray_wide_vectors_s"] = bench.time_ours(ours, args, batch, xla_cpu_prefer_vector_width=512)
    if not bench.has_stingray:
        return bench.entry(None, 1, ours, args, batch, **more)
    theirs = stingray_red_noise(n, poisson=False)
    calls = max(1, 16384 // n)
    draws = 64 if bench.quick or n > 10_000 else 400
    mine = jax.jit(ours)(*keys_and_slopes(bench, draws))
    more["agreement"] = agreement(band_statistics(mine), band_statistics(np.stack([theirs() for _ in range(draws)])))
    return bench.entry(lambda: [theirs() for _ in range(calls)], calls, ours, args, batch, **more)


def poisson_counts(bench: Comparison, n: int = 8192) -> dict:
    """Red noise with Poisson counts; also the counts alone against NumPy's and JAX's."""
    import jax.numpy as jnp
    import numpy as np

    from eagleray.simulators.observe.poisson import poisson

    jax = bench.jax
    batch = BATCHES[n] * (64 if bench.on_gpu else 1)
    source = red_noise(bench, n, "realised")

    def draw(key: Any, slope: Any) -> Any:
        key_source, key_counts = jax.random.split(key)
        return poisson(key_counts, jnp.maximum(source(key_source, slope), 0.0))

    ours, args = jax.vmap(draw), keys_and_slopes(bench, batch)
    means = jnp.full((batch, n), MEAN, jnp.float32)
    more: dict[str, Any] = {
        "counts_alone_s": bench.time_ours(jax.vmap(poisson), (args[0], means), batch * n),
        "jax_random_poisson_s": bench.time_ours(
            jax.vmap(lambda key, mean: jax.random.poisson(key, mean)), (args[0], means), batch * n
        ),
    }
    expected = np.asarray(means)
    numpy_run = lambda: np.random.poisson(expected)  # noqa: E731, NPY002  (what Stingray calls)
    more["numpy_poisson_s"] = measure(numpy_run, repeats=bench.repeats)["cpu"] / (batch * n)
    if not bench.has_stingray:
        return bench.entry(None, 1, ours, args, batch, **more)
    theirs = stingray_red_noise(n, poisson=True)
    draws = 64 if bench.quick else 400
    mine = jax.jit(ours)(*keys_and_slopes(bench, draws))
    more["agreement"] = agreement(band_statistics(mine), band_statistics(np.stack([theirs() for _ in range(draws)])))
    return bench.entry(lambda: [theirs(), theirs()], 2, ours, args, batch, **more)


def dead_time_events(bench: Comparison, n_events: int = 10_000, batch: int = 256) -> dict:
    """Non-paralyzable dead time on given events, 1e4 in each list; ours with time as the major axis."""
    import jax.numpy as jnp
    import numpy as np

    from eagleray.simulators.observe.dead_time import non_paralyzable_mask

    jax = bench.jax
    gaps = np.random.default_rng(1).exponential(1.0 / RATE, (n_events, batch))
    times = np.cumsum(gaps, axis=0)
    ticks = np.floor(times * 1e6).astype(np.int32)
    ours = jax.vmap(non_paralyzable_mask, in_axes=(1, None), out_axes=1)
    args = (jnp.asarray(times, jnp.float32), jnp.float32(DEAD_TIME))
    more: dict[str, Any] = {"n_events": n_events}
    if not bench.has_stingray:
        return bench.entry(None, 1, ours, args, batch, **more)
    from stingray.filters import get_deadtime_mask

    each = [np.ascontiguousarray(column) for column in times.T[:16]]
    mask = np.asarray(jax.jit(ours)(jnp.asarray(ticks), jnp.int32(DEAD_TIME * 1e6)))
    whole = ticks.T.astype(np.float64)
    same = all(np.array_equal(mask[:, i], get_deadtime_mask(whole[i], DEAD_TIME * 1e6)) for i in range(batch))
    more["agreement"] = {"agree": same, "what": f"masks of {batch} lists equal, event for event, in ticks of 1 us"}

    def theirs() -> None:
        for column in each:
            get_deadtime_mask(column, DEAD_TIME)

    return bench.entry(theirs, len(each), ours, args, batch, **more)


def qpo_observation(bench: Comparison, log_normal: bool) -> tuple[Callable, Any]:
    """Our QPO behind dead time, a batch at once: keys and parameters to (spectra, events recorded, overflow).

    The rate is constant in bins of 2.5 ms, 20 in a cycle of the QPO: binning takes (pi f dt)^2 / 3 = 0.8 % off its
    power, and 0.3 % of the Lorentzian lies above Nyquist. Events then come from it in continuous time.
    """
    import jax.numpy as jnp

    from eagleray.records import TimeGrid
    from eagleray.simulators.light_curves import timmer_koenig_light_curve
    from eagleray.simulators.lognormal import log_normal_rate
    from eagleray.simulators.observe.events import bin_events, event_capacity
    from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate
    from eagleray.simulators.shapes import nu_max_lorentzian
    from eagleray.simulators.timmer_koenig import fourier_frequencies
    from eagleray.summaries.rebin import log_bins
    from eagleray.summaries.spectra import positive_frequencies, power_spectrum

    jax = bench.jax
    coarse = TimeGrid(n_bins=round(DURATION / COARSE), dt=COARSE)
    fine = TimeGrid(n_bins=round(DURATION / BIN), dt=BIN)
    per_segment = fine.n_bins // SEGMENTS
    freq = jnp.asarray(fourier_frequencies(coarse.n_bins, coarse.dt), jnp.float32)
    bins = log_bins(positive_frequencies(per_segment, BIN), REBIN)
    # Dead time makes counts scatter less than Poisson's: ample, and what does not fit is counted.
    capacity = event_capacity(RATE / (1.0 + RATE * DEAD_TIME) * DURATION)

    def rate(key: Any, theta: Any) -> Any:
        power = nu_max_lorentzian(freq, nu_max=theta[0], q=theta[1], rms=theta[2])
        if log_normal:
            return log_normal_rate(key, power, theta[3], coarse.n_bins, coarse.dt)
        values = timmer_koenig_light_curve(
            key, power, mean=theta[3], rms=theta[2], n_bins=coarse.n_bins, n_long=coarse.n_bins, dt=coarse.dt
        )
        return jnp.maximum(values, 0.0)

    def cumulative(key: Any, theta: Any) -> Any:
        return cumulative_rate(rate(key, theta), coarse)

    def summary(times: Any) -> Any:
        segments = bin_events(times, fine).reshape(SEGMENTS, per_segment)
        return bins.average(jax.vmap(lambda counts: power_spectrum(counts, BIN))(segments).mean(0))

    def observe(keys: Any, thetas: Any) -> Any:
        split = jax.vmap(jax.random.split)(keys)
        total = jax.vmap(cumulative)(split[:, 0], thetas)
        events = jax.vmap(lambda key, c: recorded_events_from_rate(key, c, jnp.float32(DEAD_TIME), capacity))(
            split[:, 1], total
        )
        # Transforms are quickest in small batches on a CPU, the scan over events in large ones.
        small = None if bench.on_gpu else 16
        spectra = (
            jax.vmap(summary)(events.times) if small is None else jax.lax.map(summary, events.times, batch_size=small)
        )
        return spectra, events.n_events, events.overflow

    return observe, bins


def stingray_qpo(dt: float) -> Callable[[], tuple[Any, int]]:
    """Stingray's own recipe: Gaussian rate in bins of dt, events, dead time, averaged spectrum, logarithmic bins."""
    import numpy as np
    from stingray import AveragedPowerspectrum, EventList
    from stingray.filters import filter_for_deadtime
    from stingray.simulator import Simulator

    n = round(DURATION / dt)
    freq = np.fft.rfftfreq(n, dt)[1:]
    half_width = QPO_FREQ / math.sqrt(1.0 + 4.0 * QPO_Q**2)
    simulator = Simulator(dt=dt, N=n, mean=RATE * dt, rms=QPO_RMS)

    def draw() -> tuple[Any, int]:
        shape = 1.0 / (1.0 + ((freq - 2.0 * QPO_Q * half_width) / half_width) ** 2)
        curve = simulator.simulate(shape)
        curve.counts = np.maximum(curve.counts, 0.0)
        source = EventList(gti=curve.gti)
        source.simulate_times(curve)
        events = EventList(filter_for_deadtime(source.time, DEAD_TIME), gti=curve.gti)
        spectrum = AveragedPowerspectrum.from_events(
            events, dt=BIN, segment_size=DURATION / SEGMENTS, norm="frac", silent=True
        )
        return spectrum.rebin_log(REBIN).power.real, events.ncounts

    return draw


def end_to_end_dead_time(bench: Comparison, batch: int = 512) -> dict:
    """QPO, events, dead time, averaged log-binned fractional spectrum: one training example of a network."""
    import jax.numpy as jnp
    import numpy as np

    jax = bench.jax
    batch = batch * 64 if bench.on_gpu else batch
    ours, bins = qpo_observation(bench, log_normal=False)
    other, _ = qpo_observation(bench, log_normal=True)
    thetas = jnp.tile(jnp.asarray([QPO_FREQ, QPO_Q, QPO_RMS, RATE], jnp.float32), (batch, 1))
    args = (jax.random.split(bench.key, batch), thetas)
    spectra, recorded, overflow = jax.jit(ours)(*args)
    more: dict[str, Any] = {
        "n_features": int(spectra.shape[1]),
        "n_overflowed": int(overflow.sum()),
        "eagleray_log_normal_s": bench.time_ours(other, args, batch),
    }
    if not bench.has_stingray:
        return bench.entry(None, 1, ours, args, batch, **more)
    theirs, coarse = stingray_qpo(FINE), stingray_qpo(COARSE)
    found = [theirs() for _ in range(48 if bench.quick else 256)]
    mine = np.column_stack([np.asarray(spectra, np.float64), np.asarray(recorded, np.float64)])
    more["agreement"] = agreement(mine, np.stack([[*power, n_events] for power, n_events in found]))
    more["stingray_rate_bin_s"] = FINE
    entry = bench.entry(lambda: theirs()[1], 1, ours, args, batch, **more)
    at_our_grid = measure(coarse, repeats=bench.repeats, at_least=bench.at_least)["cpu"]
    clock = "eagleray_wall_s" if bench.on_gpu else "eagleray_cpu_s"
    return entry | {"stingray_cpu_s_at_our_grid": at_our_grid, "ratio_at_our_grid": at_our_grid / entry[clock]}


def numpy_emmanoulopoulos(n: int, n_iterations: int, sigma: float) -> Callable[[], Any]:
    """Emmanoulopoulos, McHardy & Papadakis (2013), steps (i)-(v), as one writes it with NumPy."""
    import numpy as np

    rng = np.random.default_rng(3)
    power = np.fft.rfftfreq(n)[1:] ** -1.5

    def draw() -> Any:
        transform = np.zeros(n // 2 + 1, complex)
        transform[1:] = np.sqrt(power / 2) * (rng.standard_normal(n // 2) + 1j * rng.standard_normal(n // 2))
        transform[-1] = transform[-1].real * np.sqrt(2.0)
        amplitude = np.abs(transform)
        values = np.exp(sigma * rng.standard_normal(n))
        ranked = np.sort(values)
        for _ in range(n_iterations):
            phases = np.fft.rfft(values)
            adjusted = np.fft.irfft(amplitude * phases / np.abs(phases), n)
            values = np.empty(n)
            values[np.argsort(adjusted)] = ranked
        return values

    return draw


def emmanoulopoulos_curves(bench: Comparison, n: int = 1024, n_iterations: int = 42, sigma: float = 0.3) -> dict:
    """Log-normal values with a power law of slope 1.5, against the same number of turns of a NumPy loop."""
    import jax.numpy as jnp
    import numpy as np

    from eagleray.simulators.emmanoulopoulos import emmanoulopoulos
    from eagleray.simulators.shapes import power_law
    from eagleray.simulators.timmer_koenig import fourier_frequencies

    jax = bench.jax
    batch = 128 * (64 if bench.on_gpu else 1)
    freq = jnp.asarray(fourier_frequencies(n, 1.0), jnp.float32)

    def draw(key: Any, slope: Any) -> Any:
        quantile = lambda p: jnp.exp(sigma * jax.scipy.special.ndtri(p))  # noqa: E731
        return emmanoulopoulos(key, power_law(freq, slope=slope), quantile, n, 1.0, n_iterations=n_iterations - 2)

    theirs = numpy_emmanoulopoulos(n, n_iterations, sigma)
    ours = jax.vmap(draw)

    def arguments(count: int) -> tuple[Any, Any]:
        return jax.random.split(bench.key, count), jnp.full(count, 1.5, jnp.float32)

    draws = 64 if bench.quick else 400
    checked = agreement(
        band_statistics(jax.jit(ours)(*arguments(draws))), band_statistics(np.stack([theirs() for _ in range(draws)]))
    )
    return bench.entry(theirs, 1, ours, arguments(batch), batch, agreement=checked, against="NumPy loop", n_bins=n)


def throughput(bench: Comparison, n: int) -> dict[str, float]:
    """Light curves per second against the batch size, process normalisation."""
    exponents = range(0, 11, 5 if bench.quick else 2) if n < 10_000 else range(0, 7, 3)
    found = {}
    for batch in (2**k for k in exponents):
        draw = bench.jax.vmap(red_noise(bench, n, "process"))
        found[str(batch)] = 1.0 / bench.time_ours(draw, keys_and_slopes(bench, batch), batch)
    return found


def cost(bench: Comparison) -> dict[str, Any]:
    """Seconds per light curve against its length, and in all against the number of draws."""
    lengths = [2**k for k in (range(8, 17, 4) if bench.quick else range(8, 19))]
    per_curve = []
    for n in lengths:
        batch = max(1, 2**18 // n)
        draw = bench.jax.vmap(red_noise(bench, n, "process"))
        per_curve.append(bench.time_ours(draw, keys_and_slopes(bench, batch), batch))
    counts = [2**k for k in (range(8, 13, 2) if bench.quick else range(8, 16))]
    chunk, n = BATCHES[1024], 1024
    args = keys_and_slopes(bench, chunk)
    draw, _ = bench.compiled(bench.jax.vmap(red_noise(bench, n, "process")), *args)

    def in_chunks(count: int) -> None:
        for _ in range(count // chunk):
            bench.jax.block_until_ready(draw(*args))

    in_all = [measure(lambda count=count: in_chunks(count), repeats=5, at_least=0.01)["cpu"] for count in counts]
    return {"n_bins": lengths, "s_per_curve": per_curve, "draws": counts, "s_in_all": in_all}


def memory_bound(bench: Comparison, n: int = 8192) -> dict[str, Any]:
    """Bytes per second of Timmer & Koenig, Poisson counts and periodogram, against those of a copy.

    The bytes are 46 n a light curve: every stage once through memory (normals 4 n, amplitudes 8 n, inverse transform
    8 n, variance 4 n, scale and counts 8 n, transform 8 n, squares 6 n). What XLA counts for the program it compiled
    is given next to it.
    """
    import jax.numpy as jnp

    from eagleray.simulators.observe.poisson import poisson
    from eagleray.summaries.spectra import power_spectrum

    jax = bench.jax
    source = red_noise(bench, n, "process")

    def draw(key: Any, slope: Any) -> Any:
        key_source, key_counts = jax.random.split(key)
        return power_spectrum(poisson(key_counts, jnp.maximum(source(key_source, slope), 0.0)), 1.0)

    size = 2**28 if bench.on_gpu else 2**22
    values = jnp.ones(size, jnp.float32)
    copy, _ = bench.compiled(lambda x: x + 1.0, values)
    run = lambda: jax.block_until_ready(copy(values))  # noqa: E731
    bandwidth = 8.0 * size / measure(run, repeats=bench.repeats, at_least=bench.at_least)["wall"]
    found: dict[str, Any] = {"bandwidth": bandwidth / 1e9, "bandwidth_unit": "GB/s", "bytes": "46 n per light curve"}
    best = 0.0
    for batch in (2048, 8192, 32768) if bench.on_gpu else (32,):
        args = keys_and_slopes(bench, batch)
        compiled, compile_s = bench.compiled(jax.vmap(draw), *args)
        run = lambda compiled=compiled, args=args: jax.block_until_ready(compiled(*args))  # noqa: E731
        per_curve = measure(run, repeats=bench.repeats, at_least=bench.at_least)["wall"] / batch
        analysis = compiled.cost_analysis() or {}
        found[f"batch_{batch}"] = {
            "curves_per_s": 1.0 / per_curve,
            "compile_s": compile_s,
            "compiled_bytes_per_curve": float(analysis.get("bytes accessed", math.nan)) / batch,
        }
        best = max(best, 46.0 * n / per_curve)
    return found | {"fraction_of_bandwidth": best / bandwidth}


def run_all(quick: bool, threads: str, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every comparison, or some of them, in this process."""
    bench = Comparison(quick)
    found: dict[str, Any] = {
        "backend": bench.jax.default_backend(),
        "device": bench.jax.devices()[0].device_kind,
        "machine": machine_facts(),
    }
    sizes = (1024, 8192) if quick else tuple(BATCHES)
    steps: dict[str, Callable[[], Any]] = {
        "timmer_koenig": lambda: {str(n): timmer_koenig(bench, n) for n in sizes},
        "poisson": lambda: poisson_counts(bench),
        "dead_time_events": lambda: dead_time_events(bench),
        "end_to_end_dead_time": lambda: end_to_end_dead_time(bench),
        "emmanoulopoulos": lambda: emmanoulopoulos_curves(bench),
    }
    if threads == "one":
        steps["throughput"] = lambda: {str(n): throughput(bench, n) for n in sizes}
        steps["cost"] = lambda: cost(bench)
        steps["memory_bound"] = lambda: memory_bound(bench)
    if unknown := sorted(set(only) - set(steps)):
        sys.exit(f"--only must be of {', '.join(steps)}, got {unknown[0]!r}")
    for name in only or steps:
        found[name] = steps[name]()
        print(f"{threads}: {name} done", file=sys.stderr, flush=True)
    if bench.on_gpu:
        bound = found.get("memory_bound", {})
        found |= {name: bound[name] for name in ("bandwidth", "fraction_of_bandwidth") if name in bound}
    found["machine"]["load_average_after"] = list(os.getloadavg())
    return found


def run_apart(quick: bool, threads: str) -> dict[str, Any]:
    """The same in a fresh process, with one thread or with all."""
    environment = one_thread_environment() if threads == "one" else dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.simulators", "--json", str(path), "--threads", threads]
        subprocess.run([*command, *(["--quick"] if quick else [])], env=environment, check=True)
        return json.loads(path.read_text())


def draw_figure(found: dict[str, Any], path: Path) -> None:
    """Cost against length, with N log N, and against the number of draws, with a straight line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    cost_found = found["cost"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    n, seconds = np.asarray(cost_found["n_bins"], float), np.asarray(cost_found["s_per_curve"])
    reference = n * np.log2(n)
    left.loglog(n, seconds, "o", color="C0", label="eagleray")
    left.loglog(n, reference * np.median(seconds / reference), "-", color="0.6", label=r"$\propto N \log N$")
    theirs = {int(k): v["stingray_cpu_s"] for k, v in found["timmer_koenig"].items() if v["stingray_cpu_s"]}
    if theirs:
        left.loglog(list(theirs), list(theirs.values()), "s", color="C1", label="Stingray")
    left.set(xlabel="bins N", ylabel="CPU s per light curve")
    draws, in_all = np.asarray(cost_found["draws"], float), np.asarray(cost_found["s_in_all"])
    right.loglog(draws, in_all, "o", color="C0", label="eagleray, N = 1024")
    right.loglog(draws, draws * np.median(in_all / draws), "-", color="0.6", label=r"$\propto$ draws")
    right.set(xlabel="light curves", ylabel="CPU s in all")
    for axes in (left, right):
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def table(found: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    rows = [(f"Timmer & Koenig, N = {n}", entry) for n, entry in found["timmer_koenig"].items()]
    names = ("poisson", "dead_time_events", "end_to_end_dead_time", "emmanoulopoulos")
    rows += [(name, found[name]) for name in names]
    lines = ["| | theirs [us] | ours [us] | ratio | batch | compile [s] | agree |", "|---|---|---|---|---|---|---|"]
    for name, entry in rows:
        theirs, ratio = entry["stingray_cpu_s"], entry["ratio"]
        lines.append(
            f"| {name} | {'-' if theirs is None else f'{theirs * 1e6:.4g}'} | {entry['eagleray_cpu_s'] * 1e6:.4g} | "
            f"{'-' if ratio is None else f'{ratio:.1f}'} | {entry['batch']} | {entry['compile_s']:.2f} | "
            f"{entry.get('agreement', {}).get('agree', '-')} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulators", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, lengths and draws")
    parser.add_argument("--figure", type=Path, help="figure of cost against length and draws")
    parser.add_argument("--threads", choices=("one", "all"), help="run in this process; its environment says how many")
    parser.add_argument("--only", help="with --threads: some of the measurements, as throughput,memory_bound")
    arguments = parser.parse_args()
    if arguments.only and not arguments.threads:
        parser.error("--only needs --threads: it measures in this process")
    if arguments.threads:
        found = run_all(arguments.quick, arguments.threads, tuple(arguments.only.split(",")) if arguments.only else ())
    else:
        found = run_apart(arguments.quick, "one")
        found["all_cores"] = run_apart(arguments.quick, "all")
    arguments.json.write_text(json.dumps(found, indent=2))
    if arguments.threads:
        return
    if arguments.figure:
        draw_figure(found, arguments.figure)
    print(table(found))
    failed = [entry for entry in _entries(found) if not entry.get("agreement", {"agree": True})["agree"]]
    if failed:
        sys.exit(f"{len(failed)} entries drew from different laws; see 'agreement' in {arguments.json}")


def _entries(found: dict[str, Any]) -> list[dict[str, Any]]:
    """All comparisons of a result."""
    names = ("poisson", "dead_time_events", "end_to_end_dead_time", "emmanoulopoulos")
    return [*found["timmer_koenig"].values(), *(found[name] for name in names)]


if __name__ == "__main__":
    main()
