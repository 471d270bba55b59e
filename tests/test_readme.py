"""The README and the examples keep their word."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch):
    """As printed, but for a tiny configuration and a folder of its own."""
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    quick = "er.Config(n_simulations=300, n_calibration=50, training={'max_epochs': 2})"
    code = code.replace("er.infer(observation)", f"er.infer(observation, config={quick})")
    code = code.replace("examples/data", str(ROOT / "examples" / "data"))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert (tmp_path / "ngc4051" / "report.html").is_file()
    assert names["result"].draws["bend_freq"].shape == (4000,)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its cells one after the other, with a tiny configuration; what they print is what they computed."""
    cells = json.loads((ROOT / "examples" / "first_look.ipynb").read_text())["cells"]
    lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code").splitlines()
    code = "\n".join(line for line in lines if not line.startswith("%"))
    quick = "er.Config(n_simulations=300, n_calibration=50, training={'max_epochs': 2})"
    code = code.replace("er.infer(observation)", f"er.infer(observation, config={quick})")
    monkeypatch.chdir(ROOT / "examples")
    names = {}
    exec(compile(code, "first_look.ipynb", "exec"), names)  # noqa: S102
    assert names["timescale"].shape == (4000,)
    assert names["median"].shape == (500,)
    assert names["fit"].samples.rhat


def test_the_configuration_example_is_valid():
    import tomllib

    from eagleray.config import make_config

    config = make_config(tomllib.loads(re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1]))
    assert config.n_simulations == 100_000
    assert config.training.max_epochs == 80
    assert config.prior["bend_freq"] == "loguniform(1e-5, 1e-3)"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
