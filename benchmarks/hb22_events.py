"""Dead time without approximation: `python -m benchmarks.hb22_events --json FILE [--quick] [--draws N]`.

The low-frequency set-up of Huppenkothen & Bachetti (2022, MNRAS 511, 5689): a QPO seen for 10 s by two detectors with a
dead time of 2.5 ms after each event. They learn its posterior from simulations. Here it is sampled by NUTS from the
events themselves: four parameters and 1200 Fourier coefficients of the log-normal rate, through the exact likelihood
of events behind dead time. For parameters drawn from the prior, z = (posterior mean - truth) / posterior standard
deviation must then scatter with a mean square of one, whatever the posterior's shape. The posterior of Q is skewed, so
that its z has a long tail: the truth's rank among the draws must be uniform too, and tells sooner.

Source and detectors are those of the problem `dead_time_qpo`. The rate is constant in bins of 2.5 ms (ten in the
shortest cycle asked for) and varies at the 600 frequencies up to 60 Hz; `rms` is the expected fractional rms of that
rate. Events come from it in continuous time and meet the likelihood with nothing but their times.

The file is written after each draw; run again with the same settings, it is taken up where it stands.
"""

import argparse
import json
import math
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist
from typing import Any

from benchmarks.timing import machine_facts, one_thread_environment

PRIOR = {"rms": "uniform(0.1, 0.5)", "centre": "uniform(5, 40)", "q": "uniform(3, 30)", "rate": "uniform(500, 1500)"}
DURATION, BIN, DEAD_TIME, N_DETECTORS = 10.0, 2.5e-3, 2.5e-3, 2
N_FREQ = 600
N_STARTS = 4096
EXAMPLE = {"rms": 0.35, "centre": 20.0, "q": 10.0, "rate": 1000.0}
FULL = {"n_chains": 4, "n_warmup": 300, "n_draws": 500}
QUICK = {"n_chains": 2, "n_warmup": 200, "n_draws": 300}
SEED = 2026


class Experiment:
    """Simulation, likelihood and sampler, with JAX imported lazily: in an environment that says how many threads."""

    def __init__(self, n_chains: int, n_warmup: int, n_draws: int) -> None:
        """Set up the model; compilation comes with the first data."""
        import jax

        from eagleray.priors import Prior
        from eagleray.problems.dead_time_qpo import WatchedQpo
        from eagleray.records import TimeGrid

        self.jax = jax
        self.n_chains, self.n_warmup, self.n_draws = n_chains, n_warmup, n_draws
        self.grid = TimeGrid(n_bins=round(DURATION / BIN), dt=BIN)
        self.prior = Prior(PRIOR)
        self.source = WatchedQpo(
            grid=self.grid,
            n_freq=N_FREQ,
            n_detectors=N_DETECTORS,
            dead_time=DEAD_TIME,
            highest_rate=self.prior.upper_end("rate"),
        )
        self.simulate = jax.jit(self.source.events)
        self.chain = jax.jit(self._chain)
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def observe(self, key: Any, theta: Any, dead_time: float = DEAD_TIME) -> Any:
        """Simulate one data set, and count events and live time: the host's part, in float64."""
        import numpy as np

        from eagleray.likelihoods.live_time import live_bins
        from eagleray.records import EventList

        drawn = self.jax.device_get(self.simulate(key, theta))
        if drawn.overflow.any():
            raise RuntimeError("events did not fit")
        gti = np.asarray([[0.0, DURATION]])
        lists = [
            EventList(times=times[:n].astype(np.float64), gti=gti)
            for times, n in zip(drawn.times, drawn.n_events, strict=True)
        ]
        return live_bins(lists, dead_time, self.grid)

    def target(self, bins: Any) -> Any:
        """Posterior of parameters and Fourier coefficients."""
        from eagleray.inference.latent import cox_target

        return cox_target(self.prior, self.source.cox(bins))

    def start(self, key: Any, bins: Any) -> Any:
        """Where a chain starts: a draw of the prior, chosen by an approximate likelihood that sees every frequency.

        A chain that starts far from the QPO may settle on noise. Counts beyond those expected in the live time of a bin
        are white whatever the dead time, and so their periodogram has a Whittle likelihood.
        """
        import jax.numpy as jnp

        from eagleray.likelihoods.whittle import whittle

        jax, grid = self.jax, self.grid
        key_prior, key_choice, key_latent = jax.random.split(key, 3)
        total, live = bins.counts.sum(), bins.live.sum()
        rate = total / live
        power = jnp.abs(jnp.fft.rfft(bins.counts - rate * bins.live)[1 : N_FREQ + 1]) ** 2
        freq = jnp.asarray(self.source.rate.freq, power.dtype)

        def score(theta: Any) -> Any:
            gain = (rate * live / grid.n_bins) ** 2 * grid.n_bins / (2.0 * grid.dt)
            return whittle(power, gain * self.source.spectrum(freq, theta)[:N_FREQ] + total)

        theta = jax.vmap(self.prior.sample)(jax.random.split(key_prior, N_STARTS))
        chosen = jax.random.categorical(key_choice, jax.vmap(score)(theta))
        low, high = self.prior.lower_end("rate"), self.prior.upper_end("rate")
        near = {name: values[chosen] for name, values in theta.items()} | {
            "rate": jnp.clip(rate, low + 0.02 * (high - low), high - 0.02 * (high - low))
        }
        return self.target(bins).join(near, jax.random.normal(key_latent, (self.source.rate.n_latent,), power.dtype))

    def _chain(self, key: Any, bins: Any) -> dict[str, Any]:
        """One NUTS chain; the data are an argument, so that one program serves all of them."""
        import blackjax

        jax, target = self.jax, self.target(bins)
        key_start, key_warmup, key_draws = jax.random.split(key, 3)
        warmup: Any = blackjax.window_adaptation(
            blackjax.nuts, target.log_density, adaptation_info_fn=lambda state, info, _: info.num_integration_steps
        )
        (state, tuned), warmup_steps = warmup.run(key_warmup, self.start(key_start, bins), num_steps=self.n_warmup)
        kernel: Any = blackjax.nuts(target.log_density, **tuned).step

        def step(state: Any, key: Any) -> Any:
            state, info = kernel(key, state)
            kept = {
                "position": state.position[: len(self.prior.names)],
                "divergent": info.is_divergent,
                "acceptance": info.acceptance_rate,
                "n_steps": info.num_integration_steps,
            }
            return state, kept

        _, kept = jax.lax.scan(step, state, jax.random.split(key_draws, self.n_draws))
        theta = jax.vmap(self.prior.constrain)(kept.pop("position"))
        return kept | {"theta": theta, "step_size": tuned["step_size"], "warmup_steps": warmup_steps.sum()}

    def fit(self, key: Any, bins: Any) -> dict[str, Any]:
        """Posterior of one data set: chains on as many cores as there are."""
        import numpy as np
        from arviz_stats.base import array_stats

        start_cpu, start_wall = time.process_time(), time.perf_counter()
        keys = self.jax.random.split(key, self.n_chains)
        run = lambda key: self.jax.device_get(self.chain(key, bins))  # noqa: E731
        chains = list(self.pool.map(run, keys))
        seconds = {"cpu_s": time.process_time() - start_cpu, "wall_s": time.perf_counter() - start_wall}
        draws = {name: np.stack([chain["theta"][name] for chain in chains]) for name in self.prior.names}
        steps = sum(int(chain["n_steps"].sum()) + int(chain["warmup_steps"]) for chain in chains)
        return {
            "mean": {name: float(values.mean(dtype=np.float64)) for name, values in draws.items()},
            "sd": {name: float(values.std(dtype=np.float64)) for name, values in draws.items()},
            "ess": {name: float(array_stats.ess(values)) for name, values in draws.items()},
            "rhat": {name: float(array_stats.rhat(values)) for name, values in draws.items()},
            "divergent": int(sum(chain["divergent"].sum() for chain in chains)),
            "acceptance": float(np.mean([chain["acceptance"].mean() for chain in chains])),
            "step_size": [float(chain["step_size"]) for chain in chains],
            "n_gradients": steps,
            "draws": draws,
            **seconds,
        }


def one_draw(experiment: Experiment, i: int) -> dict[str, Any]:
    """Simulate parameter set i of the prior, sample its posterior, and compare."""
    jax = experiment.jax
    key_theta, key_data, key_fit = jax.random.split(jax.random.fold_in(jax.random.key(SEED), i), 3)
    theta = experiment.prior.sample(key_theta)
    bins = experiment.observe(key_data, theta)
    found = experiment.fit(key_fit, bins)
    draws = found.pop("draws")
    truth = {name: float(value) for name, value in theta.items()}
    return {
        "i": i,
        "truth": truth,
        "n_events": int(bins.counts.sum()),
        "z": {name: (found["mean"][name] - truth[name]) / found["sd"][name] for name in truth},
        "rank": {name: float((draws[name] < truth[name]).mean()) for name in truth},
        **found,
    }


def example(experiment: Experiment) -> dict[str, Any]:
    """The set-up's example, also by the likelihood of a detector without dead time."""
    import jax.numpy as jnp

    jax = experiment.jax
    key_data, key_fit = jax.random.split(jax.random.key(SEED))
    theta = {name: jnp.float32(value) for name, value in EXAMPLE.items()}
    found: dict[str, Any] = {"truth": EXAMPLE}
    for name, dead_time in (("exact", DEAD_TIME), ("dead_time_ignored", 0.0)):
        bins = experiment.observe(key_data, theta, dead_time)
        fit = experiment.fit(key_fit, bins)
        del fit["draws"]
        found[name] = fit | {"n_events": int(bins.counts.sum()), "live_s": float(bins.live.sum())}
    return found


def gradient_cost(experiment: Experiment, n: int = 200) -> dict[str, Any]:
    """CPU seconds of one log density with its gradient, and the number of dimensions."""
    import jax.numpy as jnp

    jax = experiment.jax
    bins = experiment.observe(jax.random.key(0), {name: jnp.float32(value) for name, value in EXAMPLE.items()})
    position = experiment.target(bins).initial(jax.random.key(1), 1)[0]
    both = jax.jit(lambda position, bins: jax.value_and_grad(experiment.target(bins).log_density)(position))
    jax.block_until_ready(both(position, bins))
    start = time.process_time()
    for _ in range(n):
        jax.block_until_ready(both(position, bins))
    return {"n_dimensions": position.size, "gradient_cpu_s": (time.process_time() - start) / n}


def compile_chain(experiment: Experiment) -> dict[str, float]:
    """Compile the chain with data of the right shapes, and say what that took."""
    import jax.numpy as jnp

    jax = experiment.jax
    bins = experiment.observe(jax.random.key(0), {name: jnp.float32(value) for name, value in EXAMPLE.items()})
    start_cpu, start_wall = time.process_time(), time.perf_counter()
    experiment.chain = experiment.chain.lower(jax.random.key(0), bins).compile()
    return {"cpu_s": time.process_time() - start_cpu, "wall_s": time.perf_counter() - start_wall}


def summarise(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Scatter of the z-scores, uniformity of the ranks and health of the chains over all draws.

    `rank_score_sd`: standard deviation of the ranks turned into normal numbers. `rank_p_value`: Kolmogorov-Smirnov.
    """
    import scipy.stats

    names = list(PRIOR)
    z = {name: [one["z"][name] for one in draws] for name in names}
    n = len(draws)
    mean = {name: sum(z[name]) / n for name in names}
    spread = {name: math.sqrt(sum((v - mean[name]) ** 2 for v in z[name]) / max(n - 1, 1)) for name in names}
    about_zero = {name: math.sqrt(sum(v * v for v in z[name]) / n) for name in names}
    ranks = {name: [one["rank"][name] for one in draws] for name in names}
    scores = {name: [NormalDist().inv_cdf(min(max(r, 5e-4), 1.0 - 5e-4)) for r in ranks[name]] for name in names}
    within = {name: sum(abs(v) < 1.0 for v in z[name]) / n for name in names}
    return {
        "n": n,
        "z_mean": mean,
        "z_sd": spread,
        "z_rms": about_zero,
        "z_within_one": within,
        "rank_score_sd": {name: statistics.stdev(scores[name]) if n > 1 else 0.0 for name in names},
        "rank_p_value": {name: float(scipy.stats.kstest(ranks[name], "uniform").pvalue) for name in names},
        "z_all_sd": math.sqrt(sum(v * v for name in names for v in z[name]) / (n * len(names))),
        "worst_rhat": max(value for one in draws for value in one["rhat"].values()),
        "n_rhat_above_1.05": sum(max(one["rhat"].values()) > 1.05 for one in draws),
        "least_ess": min(value for one in draws for value in one["ess"].values()),
        "median_ess": sorted(min(one["ess"].values()) for one in draws)[n // 2],
        "n_divergent": sum(one["divergent"] for one in draws),
        "cpu_s": sum(one["cpu_s"] for one in draws),
        "wall_s": sum(one["wall_s"] for one in draws),
        "calibrated": all(0.8 <= value <= 1.2 for value in spread.values()),
    }


def write(path: Path, found: dict[str, Any]) -> None:
    """Replace the file whole, so that a run cut short leaves the last good state."""
    work = path.with_name(f".{path.name}.partial")
    work.write_text(json.dumps(found, indent=1))
    work.replace(path)


def resume(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a run with these settings has already written, or nothing."""
    if path.is_file():
        found = json.loads(path.read_text())
        if found.get("settings") == settings:
            return found
    return {"settings": settings, "draws": []}


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hb22_events", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write, or to go on with")
    parser.add_argument("--quick", action="store_true", help="4 draws of the prior, fewer chains and steps")
    parser.add_argument("--draws", type=int, help="draws of the prior (32)")
    arguments = parser.parse_args()
    n = arguments.draws or (4 if arguments.quick else 32)
    os.environ.update(one_thread_environment())  # chains run side by side, one to a core
    sampling = QUICK if arguments.quick else FULL
    settings = {"prior": PRIOR, "duration": DURATION, "bin": BIN, "dead_time": DEAD_TIME, "seed": SEED, **sampling}
    found = resume(arguments.json, settings)
    found["machine"] = machine_facts()
    experiment = Experiment(**sampling)
    found["compile"] = compile_chain(experiment)
    found["cost"] = gradient_cost(experiment)
    if "example" not in found:
        found["example"] = example(experiment)
        write(arguments.json, found)
    for i in range(len(found["draws"]), n):
        found["draws"].append(one_draw(experiment, i))
        found["summary"] = summarise(found["draws"])
        write(arguments.json, found)
    summary = found["summary"] = summarise(found["draws"])
    write(arguments.json, found)
    print("| parameter | z mean | z sd | within one sd | rank p | example: truth | posterior | dead time ignored |")
    print("|---|---|---|---|---|---|---|---|")
    for name in PRIOR:
        fits = [found["example"][kind] for kind in ("exact", "dead_time_ignored")]
        posterior, ignored = (f"{fit['mean'][name]:.4g} +- {fit['sd'][name]:.2g}" for fit in fits)
        print(
            f"| {name} | {summary['z_mean'][name]:+.2f} | {summary['z_sd'][name]:.2f} | "
            f"{summary['z_within_one'][name]:.2f} | {summary['rank_p_value'][name]:.2g} | "
            f"{EXAMPLE[name]:g} | {posterior} | {ignored} |"
        )
    print({key: summary[key] for key in ("worst_rhat", "least_ess", "n_divergent", "cpu_s", "wall_s", "calibrated")})


if __name__ == "__main__":
    main()
