"""Tables of a result, and the page that holds them."""

import re
from collections.abc import Iterable

from benchmarks.autodiff.findings import findings
from benchmarks.autodiff.methods import DTYPES, all_methods
from benchmarks.autodiff.network import WAYS
from benchmarks.autodiff.reading import Found, dash, error_text, get, middle_size
from benchmarks.autodiff.with_jax import SYNCHRONOUS


def markdown(found: Found) -> dict[str, str]:
    """Tables by the name of their place in the page."""
    return {
        "run": _run(found),
        "gradient": _derivative_table(found, "gradient", 1e6),
        "hessian": _derivative_table(found, "hessian", 1e3),
        "symbolic": _symbolic_table(found),
        "steps": _step_table(found),
        "lengths": _length_table(found),
        "floor": _floor_table(found),
        "network": _network_table(found),
        "findings": "\n".join(f"- {line}" for line in findings(found)),
    }


def refresh(page: str, tables: dict[str, str]) -> str:
    """The page with its tables, each between `<!-- name -->` and `<!-- end name -->`, replaced."""
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"page must have a place <!-- {name} --> ... <!-- end {name} -->")
        page = place.sub(lambda match, table=table: match[1] + table + "\n" + match[2], page)
    return page


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _run(found: Found) -> str:
    """Machine, versions, date."""
    machine = found["machine"]
    load = "{:.1f} before and {:.1f} after".format(machine["load_average"][0], machine["load_average_after"][0])
    parts = {name: entry["version"] or "missing" for name, entry in found["packages"].items()}
    quick = " (a quick run)" if found["settings"]["quick"] else ""
    return (
        f"Run of {machine['date'][:10]}{quick}: {machine['cpu']}, {machine['cores']} cores, load average {load}, "
        f"Python {machine['python']}, " + ", ".join(f"{name} {version}" for name, version in parts.items()) + "."
    )


def _labels(quantity: str) -> dict[str, str]:
    """Ways by name, those of the synchronous process after their likes."""
    labels = {}
    for name, method in all_methods()[quantity].items():
        labels[name] = method.label
        if name in SYNCHRONOUS:
            labels[f"{name}_sync"] = f"{method.label}, synchronous"
    return labels


def _derivative_table(found: Found, quantity: str, scale: float) -> str:
    """Ways against numbers of parameters, with preparation and errors at the middle one."""
    spectral, middle = found["spectral"], middle_size(found)
    unit = {1e6: "µs", 1e3: "ms"}[scale]
    head = [f"CPU [{unit}] by number of parameters", *spectral, f"float32, {middle}", "preparation [s]", "error"]
    rows = []
    ways = [("value", *item) for item in _labels("value").items()] if quantity == "gradient" else []
    ways += [(quantity, *item) for item in _labels(quantity).items()]
    for kind, name, label in ways:
        entry = [get(spectral, n, "float64", kind, name, "cpu_s") for n in spectral]
        single = get(spectral, middle, "float32", kind, name)
        double = get(spectral, middle, "float64", kind, name)
        errors = [error_text(get(one, "error")) for one in (double, single)]
        rows.append(
            [
                f"*value: {label}*" if kind == "value" else label,
                *(dash(None if one is None else one * scale) for one in entry),
                dash(None if get(single, "cpu_s") is None else single["cpu_s"] * scale),
                dash(get(double, "prepare_s"), 2, least=0.01),
                "–" if kind == "value" else f"{errors[0]}, {errors[1]}",
            ]
        )
    return _table(head, rows)


def _symbolic_table(found: Found) -> str:
    """What SymPy's derivations cost."""
    rows = []
    for quantity in ("gradient", "hessian"):
        for n, here in found["spectral"].items():
            ways = here["float64"][quantity]
            if reason := get(ways, "sympy", "reason"):
                rows.append([quantity, n, *["–"] * 4, reason])
                continue
            shared, plain = get(ways, "sympy", "symbolic"), get(ways, "sympy_plain", "symbolic")
            rows.append(
                [
                    quantity,
                    n,
                    dash(shared["derive_s"], 2, least=0.01),
                    dash(shared["share_s"], 2, least=0.01),
                    dash(shared["compile_s"], 2, least=0.01),
                    str(shared["operations"]),
                    str(plain["operations"]) if plain else get(ways, "sympy_plain", "reason") or "–",
                ]
            )
    head = ["", "parameters", "derive [s]", "share parts [s]", "compile [s]", "operations a power", "not shared"]
    return _table(head, rows)


def _step_table(found: Found) -> str:
    """Best step of each rule, and what the usual one gives."""
    steps = found["steps"]
    if "errors" not in steps:
        return steps["reason"]
    rules = {"one_sided": "gradient, one-sided", "central": "gradient, central", "second": "Hessian, central"}
    packages = {"numpy": "NumPy", "jax_jit": "JAX, jit"}
    rows = []
    for rule, label in rules.items():
        for dtype in DTYPES:
            for package, name in packages.items():
                errors = steps["errors"].get(f"{package}_{rule}_{dtype}")
                if errors is None:
                    continue
                best = min((e, s) for e, s in zip(errors, steps["steps"], strict=True) if e is not None)
                good = [s for e, s in zip(errors, steps["steps"], strict=True) if e is not None and e < 10 * best[0]]
                row = [
                    label,
                    dtype,
                    name,
                    error_text(best[0]),
                    error_text(best[1]),
                    f"{error_text(min(good))} to {error_text(max(good))}",
                ]
                rows.append(row)
    head = ["", "precision", "function", "least error", "at step", "steps within ten times of it"]
    return _table(head, rows)


def _length_table(found: Found) -> str:
    """CPU microseconds of the gradient against the number of powers."""
    lengths, labels = found["lengths"], _labels("gradient")
    rows = [
        [labels[name], *(dash(None if one is None else one * 1e6) for one in values)]
        for name, values in lengths["cpu_s"].items()
    ]
    head = [f"CPU [µs], {lengths['n_parameters']} parameters, by number of powers", *map(str, lengths["n_powers"])]
    return _table(head, rows)


def _floor_table(found: Found) -> str:
    """What an empty call and an import cost."""
    labels = _labels("gradient")
    packages = {"numpy_by_hand": "numpy", "jax_reverse_jit": "jax", "autograd": "autograd", "torch": "torch"}
    rows = []
    for name, entry in found["floor"].items():
        cpu = None if entry["cpu_s"] is None else entry["cpu_s"] * 1e6
        loading = get(found["packages"], packages.get(name, ""), "import_s") if name != "numpy_by_hand" else None
        rows.append([labels[name], dash(cpu), dash(entry.get("prepare_s"), 2, least=0.01), dash(loading, 2)])
    head = ["gradient of three squares", "CPU [µs]", "preparation [s]", "import [s]"]
    return _table(head, rows)


def _network_table(found: Found) -> str:
    """Milliseconds of a training step, with one thread and with all cores."""
    networks = found["network"]
    rows = []
    for name, (label, _, _) in WAYS.items():
        row = [label]
        for size in networks:
            row.append(dash(_milliseconds(get(networks, size, "ways", name, "cpu_s"))))
        everywhere = get(found, "all_cores", "network", "large", "ways", name, "wall_s")
        biggest = list(networks)[-1]
        prepare = get(networks, biggest, "ways", name, "prepare_s")
        error = max(
            (e for size in networks if (e := get(networks, size, "ways", name, "loss_error")) is not None),
            default=None,
        )
        rows.append([*row, dash(_milliseconds(everywhere)), dash(prepare, 2, least=0.01), error_text(error)])
    shapes = ["-".join(map(str, one["widths"])) + f", batch {one['batch']}" for one in networks.values()]
    head = ["CPU [ms] a step", *shapes, "the last, all cores, wall [ms]", "preparation [s]", "error of the loss"]
    return _table(head, rows)


def _milliseconds(seconds: float | None) -> float | None:
    """From seconds."""
    return None if seconds is None else seconds * 1e3
