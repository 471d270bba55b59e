"""The command `eagleray`: each verb calls one function of the package."""

import contextlib
import functools
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from eagleray.errors import InputError

app = typer.Typer(
    help="Neural surrogates and simulation-based inference for X-ray timing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_messages = Console(stderr=True, highlight=False, soft_wrap=True)
_INTERRUPTED = 130

Observation = Annotated[
    list[Path],
    typer.Argument(
        help="Light curve (text, or FITS with a RATE table) or event list (FITS, or text with times); two files for a "
        "problem of two bands or detectors."
    ),
]
Problem = Annotated[str | None, typer.Option(help="What the variability is taken to be; see `eagleray problems`.")]
Priors = Annotated[
    list[str] | None,
    typer.Option(
        "--prior", help='Replace a prior, as `name="uniform(0, 2)"`. May be given again.', metavar="NAME=PRIOR"
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace any setting of the TOML file, as `n_draws=4000`.", metavar="NAME=VALUE"),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings; options given here win.")]
Seed = Annotated[int | None, typer.Option(help="Seed of every random number.")]
Simulations = Annotated[int | None, typer.Option("--simulations", help="Simulations to train on.")]
SeedFromZero = Annotated[int, typer.Option("--seed", help="Seed of every random number.", min=0)]
BinWidth = Annotated[
    float | None, typer.Option("--dt", help="Bin width [s]: for events, or a multiple of a light curve's own.")
]
CountsUnit = Annotated[float, typer.Option(help="Value that one count has in the file's column of counts.")]
Band = Annotated[int, typer.Option(help="Energy band, counted from 0, of a file with several.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output folder if it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


# Signals received. A handler's exception can be lost (raised inside a callback that ignores it), so that the work asks
# here too.
_received: list[int] = []


def main() -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    _received.clear()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    unraisable, sys.unraisablehook = sys.unraisablehook, _ignore_interrupt
    try:
        status = app(standalone_mode=False)
    except InputError as error:
        status = _complain(str(error))
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # else it is the command-line parser's
            raise
        status = _complain(f"{error.format_message()}; see eagleray --help")  # type: ignore[attr-defined]
    finally:
        sys.unraisablehook = unraisable
    if status == _INTERRUPTED:
        _messages.print("eagleray: interrupted; no result was written", style="red")
    sys.exit(status or 0)


@app.command()
def infer(
    observation: Observation,
    problem: Problem = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; default: the file's name + `_eagleray`.")] = None,
    network: Annotated[
        Path | None, typer.Option(help="Answer with this trained network (a result's `network/`); no training.")
    ] = None,
    config: ConfigFile = None,
    prior: Priors = None,
    setting: Settings = None,
    simulations: Simulations = None,
    draws: Annotated[int | None, typer.Option(help="Posterior draws.")] = None,
    seed: Seed = None,
    dt: BinWidth = None,
    counts_unit: CountsUnit = 1.0,
    band: Band = 0,
    cache: Annotated[bool, typer.Option(help="Keep trained networks, and use one that was trained alike.")] = True,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Infer the posterior of an observation's variability, with its calibration, figures and a report."""
    from eagleray.files import check_target

    folder = out or Path(f"{_stem(observation)}_eagleray")
    check_target(folder, overwrite=overwrite)
    settings = _training_config(config, problem, prior, setting, simulations, seed, draws)

    from eagleray.inference.storage import load_posterior
    from eagleray.pipeline import amortised
    from eagleray.pipeline.results import write_result

    trained = None
    if network is not None:
        trained = load_posterior(network)
        fixed = sorted(settings.model_fields_set & amortised.FIXED_BY_NETWORK)
        if fixed:
            raise InputError(f"--network answers with its own {fixed[0]}; leave out what sets {', '.join(fixed)}")
    asked = settings.problem if trained is None else amortised.problem_name(trained)
    data = _read(observation, asked, dt=dt, counts_unit=counts_unit, band=band)
    with _progress(quiet) as watch:
        result, posterior = amortised.infer(
            data,
            config=settings,
            posterior=trained,
            cache=amortised.default_cache() if cache else None,
            command=shlex.join(["eagleray", *sys.argv[1:]]),
            watch=watch,
        )
        write_result(result, folder, posterior=posterior, overwrite=overwrite)
    _answer(result, folder)


@app.command()
def batch(
    observations: Annotated[
        list[Path], typer.Argument(help="A file for each observation, watched as those the network was trained on.")
    ],
    network: Annotated[Path, typer.Option(help="The trained network: a result's `network/`, or from `train`.")],
    out: Annotated[
        Path | None, typer.Option(help="Output folder; default: the first file's name + `_batch_eagleray`.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws for each.", min=100)] = 2000,
    seed: SeedFromZero = 0,
    dt: BinWidth = None,
    counts_unit: CountsUnit = 1.0,
    band: Band = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Answer for many observations with one trained network: a table with a line for each, and the draws.

    A file that cannot be read, or was not watched as the network's simulations were, is refused in its line of the
    table; the others are answered.
    """
    from eagleray.files import check_target

    folder = out or Path(f"{_stem(observations)}_batch_eagleray")
    check_target(folder, overwrite=overwrite)
    from eagleray.inference.storage import load_posterior
    from eagleray.interop.reading import read_for
    from eagleray.pipeline.amortised import problem_name
    from eagleray.pipeline.batch import infer_each
    from eagleray.pipeline.results import write_batch
    from eagleray.problems import find_problem

    trained = load_posterior(network)
    options = {"takes": find_problem(problem_name(trained)).takes, "dt": dt, "counts_unit": counts_unit, "band": band}
    readers = {str(path): functools.partial(read_for, [path], **options) for path in observations}
    command = shlex.join(["eagleray", *sys.argv[1:]])
    with _progress(quiet) as watch:
        found = infer_each(readers, trained, n_draws=draws, seed=seed, command=command, watch=watch)
        write_batch(found, folder, overwrite=overwrite)
    for name, reason in zip(found.names, found.refused, strict=True):
        if reason:
            _messages.print(f"Refused: {name}: {reason}", markup=False, style="yellow")
    n_refused, n_doubted = sum(map(bool, found.refused)), sum(map(bool, found.warnings))
    n_answered = len(found.names) - n_refused
    Console().print(
        f"{n_answered} answered, {n_doubted} of them with doubts; {n_refused} refused\nTable: {folder / 'summary.csv'}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def fit(
    observation: Observation,
    model: Annotated[
        str | None,
        typer.Option(help='Model of the power spectrum, as `"powerlaw + qpo:lorentzian + constant"`.'),
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(help="Sample the exact posterior of this problem instead; see `eagleray problems`."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; default: the file's name + `_fit_eagleray`.")] = None,
    segment: Annotated[
        float | None, typer.Option(help="Average the periodograms of segments of this length [s].")
    ] = None,
    rebin: Annotated[float | None, typer.Option(help="Growth of logarithmic frequency bins; 0 for none.")] = None,
    norm: Annotated[str | None, typer.Option(help="Norm of the spectrum: frac, leahy, abs or none.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler; `nested` also gives the evidence.")] = None,
    config: ConfigFile = None,
    prior: Priors = None,
    setting: Settings = None,
    draws: Annotated[int | None, typer.Option(help="Posterior draws of each chain.")] = None,
    seed: Seed = None,
    dt: BinWidth = None,
    counts_unit: CountsUnit = 1.0,
    band: Band = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fit a model to the power spectrum by its exact likelihood: best fit, posterior, checks, figures and a report.

    With `--problem` what is fitted is not a spectrum but whatever that problem explains, by its exact likelihood.

    A prior can also fix a parameter, `constant.level="fixed(2)"`, or tie it to another, as
    `lorentzian_2.centre="tied(2 * lorentzian.centre)"`.
    """
    from eagleray.config import FitConfig
    from eagleray.files import check_target

    folder = out or Path(f"{_stem(observation)}_fit_eagleray")
    check_target(folder, overwrite=overwrite)
    of_spectrum = {"model": model, "segment_size": segment, "rebin": rebin, "norm": norm}
    options = of_spectrum | {"problem": problem, "sampler": sampler, "n_draws": draws, "seed": seed}
    settings = _config(FitConfig, config, prior, setting, options)
    misplaced = sorted(settings.model_fields_set & set(of_spectrum)) if settings.problem else []
    if misplaced:
        raise InputError(
            f"{misplaced[0]} is of a power spectrum, which the problem {settings.problem} is not; leave it"
        )
    data = _read(observation, settings.problem, dt=dt, counts_unit=counts_unit, band=band)

    from eagleray.pipeline.results import write_result

    with _progress(quiet) as watch:
        command = shlex.join(["eagleray", *sys.argv[1:]])
        if settings.problem is None:
            from eagleray.pipeline.exact import fit as fit_spectrum

            result = fit_spectrum(data, config=settings, command=command, watch=watch)
        else:
            from eagleray.pipeline.problem_fit import fit_problem

            result = fit_problem(data, config=settings, command=command, watch=watch)
        write_result(result, folder, overwrite=overwrite)
    _answer(result, folder)


@app.command()
def train(
    observation: Annotated[
        list[Path], typer.Argument(help="Observation, as for `infer`; or a TOML file of settings that names one.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the trained network; must stand here or there.")] = None,
    problem: Problem = None,
    bank: Annotated[Path | None, typer.Option(help="Train on this bank from `eagleray simulate`.")] = None,
    on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Read the bank piece by piece: it is larger than memory.")
    ] = False,
    config: ConfigFile = None,
    prior: Priors = None,
    setting: Settings = None,
    simulations: Simulations = None,
    seed: Seed = None,
    dt: BinWidth = None,
    counts_unit: CountsUnit = 1.0,
    band: Band = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a network for light curves watched like this one, check it, and save it for `infer --network`.

    The state of the training is kept in a folder beside the network's; run again after an interruption, it goes on.
    """
    from eagleray.files import check_target

    is_settings = observation[0].suffix == ".toml"
    if is_settings and (config is not None or len(observation) > 1):
        raise InputError(f"settings must come from one TOML file, got {observation[0]} and {config or observation[1]}")
    file = observation[0] if is_settings else config
    settings = _training_config(file, problem, prior, setting, simulations, seed, None)
    if file is not None:
        out = out or (None if settings.out is None else file.parent / settings.out)
        bank = bank or (None if settings.bank is None else file.parent / settings.bank)
    if is_settings:
        if settings.observation is None:
            raise InputError(f'{file} must name an observation, as observation = "lc.txt"; it names none')
        named = [settings.observation] if isinstance(settings.observation, str) else settings.observation
        observation = [observation[0].parent / name for name in named]
    if bank is not None and settings.simulations == "fresh":
        raise InputError(f"simulations must be kept to train on a bank, got fresh and {bank}; leave one of them out")
    if bank is None and on_disk:
        raise InputError("--on-disk needs a bank to read, got none; give --bank")
    if out is None:
        raise InputError("the folder for the network must be given: --out FOLDER, or out in the TOML file")
    check_target(out, overwrite=overwrite)
    task = _problem(observation, settings, dt, counts_unit, band)
    from eagleray.inference.storage import save_posterior
    from eagleray.interop.banks import load_bank, open_bank
    from eagleray.pipeline import amortised

    state = out.with_name(f"{out.name}.training")
    simulated = None
    if bank is not None:
        simulated = (open_bank if on_disk else load_bank)(bank, signature=task.signature())
    with _progress(quiet) as watch:
        posterior = amortised.train(task, config=settings, bank=simulated, folder=state, watch=watch)
    save_posterior(posterior, out, overwrite=overwrite)
    shutil.move(state / "metrics.csv", out / "metrics.csv")
    for checkpoint in state.glob("checkpoint*"):
        shutil.rmtree(checkpoint)
    with contextlib.suppress(OSError):  # there is something of somebody else's in it
        state.rmdir()
    _messages.print(f"Network: {out}")


@app.command()
def simulate(
    observation: Observation,
    out: Annotated[Path, typer.Option(help="Zarr store to write, for example bank.zarr.")],
    problem: Problem = None,
    config: ConfigFile = None,
    prior: Priors = None,
    setting: Settings = None,
    simulations: Simulations = None,
    seed: Seed = None,
    dt: BinWidth = None,
    counts_unit: CountsUnit = 1.0,
    band: Band = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate parameters and summaries of light curves watched like this one, for `train --bank`."""
    from eagleray.files import check_target

    check_target(out, overwrite=overwrite)
    settings = _training_config(config, problem, prior, setting, simulations, seed, None)
    task = _problem(observation, settings, dt, counts_unit, band)
    from eagleray.interop.banks import save_bank
    from eagleray.pipeline import amortised

    with _progress(quiet) as watch:
        simulated = amortised.simulate(task, n=settings.n_simulations, seed=settings.seed, watch=watch)
    save_bank(simulated, out, signature=task.signature(), overwrite=overwrite)
    _messages.print(f"Bank: {out} ({len(simulated.valid)} simulations, {(~simulated.valid).sum()} without a summary)")


@app.command()
def diagnose(
    result: Annotated[Path, typer.Argument(help="Folder of a result of `infer`, or of a trained network.")],
    observation: Annotated[
        list[Path] | None,
        typer.Argument(help="What was observed; default: the result's light curve. A network by itself needs one."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; default: the result's name + `_diagnosis`.")] = None,
    simulations: Annotated[int, typer.Option(help="Fresh simulations to test with.", min=100)] = 1000,
    seed: SeedFromZero = 0,
    dt: BinWidth = None,
    counts_unit: CountsUnit = 1.0,
    band: Band = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Put a trained network to every test, over its whole prior and at the observation, and write the page.

    Ranks with simultaneous bands, coverage of highest-density regions and of random points (TARP), z-scores and
    contraction; at the observation its distance from the simulations, a local classifier test, statistics of simulated
    data, and importance weights where the likelihood is known.
    """
    from eagleray.files import check_target
    from eagleray.inference.storage import load_posterior
    from eagleray.interop.datatree import read_shown
    from eagleray.interop.reading import light_curve_of
    from eagleray.pipeline.amortised import problem_name
    from eagleray.problems import find_problem

    folder = out or result.with_name(f"{result.resolve().name}_diagnosis")
    check_target(folder, overwrite=overwrite)
    network = result / "network" if (result / "network").is_dir() else result
    trained = load_posterior(network)
    problem = problem_name(trained)
    takes = find_problem(problem).takes
    if observation:
        data = _read(observation, problem, dt=dt, counts_unit=counts_unit, band=band)
    elif takes == "light curve" and (result / "posterior.nc").is_file():
        data = read_shown(result / "posterior.nc")
        _describe(light_curve_of(data))
    else:
        raise InputError(f"the observation must be given ({takes}), got none: eagleray diagnose {result} OBSERVATION")

    from eagleray.diagnostics.diagnosis import Diagnosis
    from eagleray.pipeline import amortised, diagnosis
    from eagleray.report.diagnosis import write_diagnosis

    problem = amortised.matching_problem(trained, data)
    command = shlex.join(["eagleray", *sys.argv[1:]])
    with _progress(quiet) as watch:
        found: Diagnosis = diagnosis.diagnose(trained, problem, n=simulations, seed=seed, command=command, watch=watch)
        write_diagnosis(found, folder, overwrite=overwrite)
    console = Console()
    for verdict in (*found.everywhere, *found.here):
        console.print(f"{verdict.state:>11}  {verdict.title}", highlight=False)
    console.print(f"Page: {folder / 'diagnosis.html'}", highlight=False, soft_wrap=True)


@app.command()
def problems() -> None:
    """List the problems: what they are, their parameters and settings, what they take, the exact answer, the cost."""
    from eagleray.problems import PROBLEMS

    console = Console(highlight=False)
    for name, entry in PROBLEMS.items():
        named = ", ".join(f"{p} [{unit}]" if unit else p for p, unit in entry.units.items())
        parameters = f"{len(entry.units)}: {named}"
        settings = ", ".join(f"{key} = {value:g}" for key, value in entry.settings.items()) or "none"
        console.print(name, style="bold")
        for title, text in (
            ("what", entry.about),
            ("parameters", parameters),
            ("settings", settings),
            ("takes", entry.takes),
            ("exact answer", entry.reference),
            ("cost", f"{1e3 * entry.seconds:.2g} ms for each simulation on one core"),
        ):
            console.print(f"  {title:<13} {text}", markup=False)


@app.command()
def models() -> None:
    """List the shapes that a model of `fit` is made of, with their parameters."""
    from eagleray.simulators.expressions import SHAPES
    from eagleray.simulators.spectrum import parameters

    console = Console(highlight=False)
    console.print('A model is a sum of shapes, or of products: "powerlaw + qpo:lorentzian + constant".')
    for name, shape in SHAPES.items():
        free = ", ".join(parameter for parameter in parameters(shape) if parameter != "pivot")
        console.print(f"  [bold]{name:<24}[/bold] {free}")


def _training_config(
    file: Path | None,
    problem: str | None,
    priors: list[str] | None,
    settings: list[str] | None,
    simulations: int | None,
    seed: int | None,
    draws: int | None,
) -> Any:
    """Settings of a network."""
    from eagleray.config import Config

    options = {"problem": problem, "n_simulations": simulations, "seed": seed, "n_draws": draws}
    return _config(Config, file, priors, settings, options)


def _config(
    kind: Any, file: Path | None, priors: list[str] | None, settings: list[str] | None, options: dict[str, Any]
) -> Any:
    """Settings from the TOML file, then `--set`, then the options with names of their own."""
    from eagleray.config import make_config, read_config

    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if priors:
        given["prior"] = {name: _value(text) for name, text in (_pair("--prior", prior) for prior in priors)}
    return make_config(read_config(file) if file else {}, _nested(settings or []), given, kind=kind)


def _pair(option: str, text: str) -> tuple[str, str]:
    """Split NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise InputError(f"{option} must be NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def _nested(settings: list[str]) -> dict[str, Any]:
    """`["training.max_epochs=80"]` as nested mappings; values are TOML where they are TOML, text elsewhere."""
    layer: dict[str, Any] = {}
    for text in settings:
        name, value = _pair("--set", text)
        *path, last = name.split(".")
        target = layer
        for part in path:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise InputError(f"--set gives {part} both a value and parts, in {text!r}")
        target[last] = _value(value)
    return layer


def _value(text: str) -> Any:
    """A value as TOML where it is TOML, and as text elsewhere."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _stem(observation: list[Path]) -> str:
    """What results are called by default: the first file's name."""
    return observation[0].name.split(".")[0]


def _read(observation: list[Path], problem: str | None, **options: Any) -> Any:
    """What was observed, as a problem takes it; without a problem a light curve."""
    from eagleray.interop.reading import light_curve_of, read_for
    from eagleray.problems import find_problem

    data = read_for(observation, "light curve" if problem is None else find_problem(problem).takes, **options)
    _describe(light_curve_of(data))
    return data


def _problem(observation: list[Path], settings: Any, dt: float | None, counts_unit: float, band: int) -> Any:
    """The problem of the settings for one observation."""
    from eagleray.problems import make_problem

    data = _read(observation, settings.problem, dt=dt, counts_unit=counts_unit, band=band)
    return make_problem(settings.problem, data, settings.prior, **settings.settings)


def _answer(result: Any, folder: Path) -> None:
    """Show a result in the terminal: the table, its doubts, the verdicts."""
    from eagleray.diagnostics.verdicts import judge
    from eagleray.report import render_table

    console = Console()
    console.print(render_table(result))
    for warning in result.warnings:
        _messages.print(f"Warning: {warning}", markup=False, style="yellow")
    for verdict in judge(result):
        console.print(f"{verdict.state:>7}  {verdict.title}", highlight=False)
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _describe(data: Any) -> None:
    """Say what was read."""
    grid = data.grid
    _messages.print(
        f"{data.source}: {grid.n_bins} bins of {grid.dt:g} s ({data.n_exposed} exposed), "
        f"{data.mean_rate:.4g} counts/s, {data.kind}",
        markup=False,
    )
    for note in data.notes:
        _messages.print(f"  {note}", markup=False, style="dim")


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A progress bar for each stage."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}", style="dim"),
    )
    with Progress(*columns, console=_messages, disable=quiet) as bars:
        tasks: dict[str, Any] = {}

        def watch(stage: str, done: int, total: int, remark: str = "") -> None:
            if _received:
                raise KeyboardInterrupt
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, remark="")
            bars.update(tasks[stage], completed=done, total=total)
            if remark:
                bars.update(tasks[stage], remark=remark)

        yield watch


def _interrupt(signum: int, frame: Any) -> None:
    """Stop the work, so that whatever is half-written is taken away."""
    _received.append(signum)
    raise KeyboardInterrupt


def _ignore_interrupt(unraisable: Any) -> None:
    """Say nothing of an interrupt that fell into a callback, where Python drops it: `watch` raises it again."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _complain(message: str) -> int:
    """Print one line, and return the exit status of bad input."""
    _messages.print(f"eagleray: {message}", markup=False, style="red")
    return 2
