"""eagleray: neural surrogates and simulation-based inference for X-ray timing, on JAX.

    import eagleray as er

    observation = er.read_observation("ngc4051_xmm.txt")
    result, posterior = er.infer(observation)
    result.draws["bend_freq"]          # posterior draws, an array
    er.to_datatree(result).posterior   # the same for ArviZ

Names are imported when they are first used, so that importing eagleray is quick and allocates nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray.config import Config
    from eagleray.errors import InputError
    from eagleray.inference.storage import load_posterior, save_posterior
    from eagleray.interop.datatree import to_datatree
    from eagleray.interop.reading import read_observation
    from eagleray.pipeline.amortised import infer, train
    from eagleray.pipeline.batch import infer_each
    from eagleray.pipeline.exact import fit
    from eagleray.pipeline.problem_fit import fit_problem
    from eagleray.pipeline.results import write_batch, write_result
    from eagleray.problems import make_problem

__all__ = [
    "Config",
    "InputError",
    "fit",
    "fit_problem",
    "infer",
    "infer_each",
    "load_posterior",
    "make_problem",
    "read_observation",
    "save_posterior",
    "to_datatree",
    "train",
    "write_batch",
    "write_result",
]

_HOMES = {
    "Config": "eagleray.config",
    "InputError": "eagleray.errors",
    "fit": "eagleray.pipeline.exact",
    "fit_problem": "eagleray.pipeline.problem_fit",
    "infer": "eagleray.pipeline.amortised",
    "infer_each": "eagleray.pipeline.batch",
    "load_posterior": "eagleray.inference.storage",
    "make_problem": "eagleray.problems",
    "read_observation": "eagleray.interop.reading",
    "save_posterior": "eagleray.inference.storage",
    "to_datatree": "eagleray.interop.datatree",
    "train": "eagleray.pipeline.amortised",
    "write_batch": "eagleray.pipeline.results",
    "write_result": "eagleray.pipeline.results",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'eagleray' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
