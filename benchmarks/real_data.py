"""Two real spectra fitted by eagleray and by Stingray: best fit, errors, and where they differ.

    python -m benchmarks.real_data --json FILE

The RXTE light curve in Stingray (`lc_sample.txt`, 22 143 bins of 0.125 s of 1997-07-07, its source not documented; its
column is 1.6 times the counts) averaged over segments of 64 s, and the XMM-Newton light curve of NGC 4051 as one
periodogram. Both are fitted with a power law plus a constant under the same priors, Stingray's power law with its pivot
at ours.
"""

import argparse
import importlib.resources
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import eagleray as er
from benchmarks.modelling import prior_density
from benchmarks.timing import machine_facts
from eagleray.config import FitConfig
from eagleray.records import FitResult, LightCurve

MODEL = "powerlaw + constant"
NAMES = {"powerlaw.norm": "amplitude_0", "powerlaw.slope": "alpha_0", "constant.level": "amplitude_1"}
_N_FITS = 8
NGC_4051 = Path(__file__).parents[1] / "examples" / "data" / "ngc4051_xmm.txt"


def rxte_sample() -> LightCurve:
    """Stingray's sample light curve in counts."""
    column = np.loadtxt(importlib.resources.files("stingray") / "datasets" / "lc_sample.txt")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lc_sample.txt"
        np.savetxt(path, column[:, :2], fmt="%.6f")
        return er.read_observation(path, counts_unit=1.6)


def stingray_fit(result: FitResult) -> dict[str, dict[str, float]]:
    """Stingray's maximum of the same posterior, and errors from the curvature of its log density there."""
    from astropy.modeling.models import Const1D, PowerLaw1D
    from stingray.modeling import PSDParEst, PSDPosterior, set_logprior
    from stingray.powerspectrum import Powerspectrum

    freq, power, m = (
        np.asarray(x, np.float64) for x in (result.spectrum.freq, result.spectrum.power, result.spectrum.m)
    )
    model = PowerLaw1D(x_0=_pivot(result)) + Const1D()
    model.x_0_0.fixed = True
    observed = Powerspectrum()
    observed.freq, observed.power, observed.m, observed.df, observed.norm = (
        freq,
        power,
        int(m[0]),
        freq[1] - freq[0],
        "frac",
    )
    posterior = PSDPosterior(freq, power, model, m=int(m[0]))
    laws = {theirs: _natural_density(result.prior[ours]) for ours, theirs in NAMES.items()}
    posterior.logprior = set_logprior(posterior, laws)
    start = [result.optimum.theta[name] for name in NAMES]
    estimator = PSDParEst(observed, fitmethod="Nelder-Mead", max_post=True)
    np.random.seed(0)  # noqa: NPY002 - `fit` perturbs its start from NumPy's global generator, and may end outside
    fits = [np.asarray(estimator.fit(posterior, start).p_opt) for _ in range(_N_FITS)]
    best = max(fits, key=posterior)
    curvature = _hessian(lambda p: -posterior(p), best)
    errors = np.sqrt(np.diag(np.linalg.inv(curvature)))
    return {
        name: {"value": float(value), "error": float(error)}
        for name, value, error in zip(NAMES, best, errors, strict=True)
    }


def _natural_density(text: str) -> Callable[[float], float]:
    """Prior density of ln theta for log-uniform and log-normal priors, whose maximum ours is."""
    density = prior_density(text)
    return (lambda value: value * density(value)) if text.startswith("log") else density


def _pivot(result: FitResult) -> float:
    """Frequency at which our power law has its norm [Hz]."""
    from eagleray.problems.spectral_fit import make_spectral_problem

    first = make_spectral_problem(result.spectrum, MODEL).model.components[0]
    return dict(first.fixed)["pivot"]


def _hessian(function: Any, at: np.ndarray) -> np.ndarray:
    """Second derivatives by central differences, steps of 1e-3 of each parameter."""
    steps = np.diag(1e-3 * np.abs(at))
    n = at.size
    return np.array(
        [
            [
                (
                    function(at + steps[i] + steps[j])
                    - function(at + steps[i] - steps[j])
                    - function(at - steps[i] + steps[j])
                    + function(at - steps[i] - steps[j])
                )
                / (4 * steps[i, i] * steps[j, j])
                for j in range(n)
            ]
            for i in range(n)
        ]
    )


def compare(observation: LightCurve, config: FitConfig) -> dict[str, Any]:
    """Both fits of one observation."""
    result = er.fit(observation, config=config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = stingray_fit(result)
    rows = {}
    for name in NAMES:
        draws = result.draws[name]
        rows[name] = {
            "map": result.optimum.theta[name],
            "map_error": result.optimum.standard_error[name],
            "posterior_median": float(np.median(draws)),
            "posterior_sd": float(np.std(draws)),
            "stingray": theirs[name]["value"],
            "stingray_error": theirs[name]["error"],
            "error_ratio": result.optimum.standard_error[name] / theirs[name]["error"],
        }
    return {
        "source": observation.source,
        "likelihood": result.provenance["likelihood"],
        "m": float(np.asarray(result.spectrum.m)[0]),
        "parameters": rows,
        "rhat": max(result.samples.rhat.values()),
        "warnings": list(result.warnings),
        "checks": {check.name: check.p_value for check in result.checks},
    }


def table(found: dict[str, Any]) -> str:
    """The comparison as a Markdown table."""
    head = "| | parameter | MAP | posterior | Stingray | error ratio |\n|---|---|---|---|---|---|"
    lines = [
        f"| {label} | {name} | {row['map']:.4g} ± {row['map_error']:.2g} | {row['posterior_median']:.4g} ± "
        f"{row['posterior_sd']:.2g} | {row['stingray']:.4g} ± {row['stingray_error']:.2g} | {row['error_ratio']:.3f} |"
        for label, entry in found.items()
        if "parameters" in entry
        for name, row in entry["parameters"].items()
    ]
    return "\n".join([head, *lines])


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_data", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    found = {
        "RXTE, m = 43": compare(rxte_sample(), FitConfig(model=MODEL, segment_size=64.0)),
        "NGC 4051, m = 1": compare(er.read_observation(NGC_4051), FitConfig(model=MODEL)),
        "machine": machine_facts(),
    }
    arguments.json.write_text(json.dumps(found, indent=2))
    print(table(found))


if __name__ == "__main__":
    main()
