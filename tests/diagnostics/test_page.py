"""The page on diagnostics keeps its word."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()


def test_the_example_runs(capsys):
    """As printed, but for smaller networks; all three diagnostics see that the posterior is too narrow."""
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    small = "draws[:, 0], n_null=119, n_units=8, n_steps=100)"
    assert code.count("draws[:, 0])\n") == 1
    exec(compile(code.replace("draws[:, 0])\n", small + "\n"), "diagnostics.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.count("failed -") == 3
