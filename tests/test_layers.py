"""The house is as DESIGN.md draws it: which room imports which, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eagleray

ROOT = Path(eagleray.__file__).parent
ROOMS = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()} - {
    "__init__",
    "__main__",
}
# Room -> rooms it may import besides itself.
ALLOWED = {
    "errors": set(),
    "records": {"errors"},
    "files": {"errors"},
    "priors": {"records", "errors"},
    "simulators": {"records", "errors"},
    "summaries": {"records", "errors"},
    "networks": {"records", "errors"},
    "likelihoods": {"records", "errors", "summaries"},
    "training": {"records", "networks", "errors"},
    "inference": {"records", "priors", "networks", "likelihoods", "files", "errors"},
    "diagnostics": {"records", "inference", "priors"},
    "problems": {"records", "priors", "simulators", "summaries", "likelihoods", "errors"},
    "interop": {"records", "problems", "files", "errors"},
    "report": {"records", "diagnostics", "files", "errors"},
    "config": {"errors", "records", "networks", "training"},
    "pipeline": ROOMS - {"cli"},
    "cli": ROOMS,
}
# Package -> modules that may import it; True: at their top, False: in functions alone.
OUTSIDERS = {
    "stingray": ("interop", True),
    "astropy": ("interop", True),
    "zarr": ("interop", True),
    "dask": ("interop", True),
    "blackjax": ("inference.samplers", True),
    "matplotlib": ("report", False),
}


def imported(source: str) -> list[tuple[str, bool]]:
    """Modules a source imports, and whether when it is itself imported (not in a function, nor for types only)."""
    tree = ast.parse(source)
    later = set()
    for node in ast.walk(tree):
        types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if types_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            later.update(ast.walk(node))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in later) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "eagleray" else [node.module]
            found += [(name, node not in later) for name in names]
    return found


def violations(module: str, source: str) -> list[str]:
    """What a module (its name without `eagleray.`) imports that it may not."""
    room = module.split(".")[0]
    wrong = []
    for name, at_import in imported(source):
        package, *rest = name.split(".")
        if package == "eagleray":
            if not rest or rest[0] not in ALLOWED[room] | {room}:
                wrong.append(f"{module} imports {name}")
        elif package in OUTSIDERS:
            home, at_top = OUTSIDERS[package]
            if not f"{module}.".startswith(f"{home}.") or (at_import and not at_top):
                wrong.append(f"{module} imports {name}")
    return wrong


def test_every_room_is_in_the_table():
    assert set(ALLOWED) == ROOMS


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_import_only_what_the_table_allows(room):
    files = sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / f"{room}.py"]
    wrong = []
    for path in files:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        wrong += violations(module, path.read_text())
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("simulators.x", "from eagleray.networks import flows"),
        ("networks.x", "def f():\n    from eagleray import simulators"),
        ("inference.storage", "import blackjax"),
        ("pipeline", "import eagleray.cli"),
        ("problems.x", "import stingray.lightcurve"),
        ("report.x", "from matplotlib import pyplot"),
    ],
)
def test_the_walk_finds_a_forbidden_import(module, source):
    assert len(violations(module, source)) == 1


def test_importing_allocates_nothing_and_changes_no_flag():
    script = """
import sys
import eagleray
assert not {"jax", "stingray", "matplotlib", "numpyro", "astropy"} & set(sys.modules), "import eagleray is heavy"
import jax
before = dict(jax.config.values)
import eagleray.problems, eagleray.inference.storage, eagleray.report, eagleray.cli, eagleray.training.loop
assert not {"stingray", "matplotlib"} & set(sys.modules), "importing the rooms is heavy"
import eagleray.pipeline.amortised, eagleray.pipeline.exact, eagleray.inference.samplers, eagleray.interop.banks
changed = {k for k, v in jax.config.values.items() if before.get(k) != v}
assert not changed, changed
assert "stingray" not in sys.modules, "importing the pipeline is heavy"  # arviz_base takes matplotlib along
assert all(getattr(eagleray, name) is not None for name in eagleray.__all__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_public_name_is_an_attribute_error():
    assert dir(eagleray) == sorted(eagleray.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        eagleray.nonsense  # noqa: B018
