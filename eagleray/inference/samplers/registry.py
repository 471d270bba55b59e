"""The methods by name: what each needs, and where it comes from."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from eagleray.errors import InputError
from eagleray.inference.samplers import gradient, gradient_free, microcanonical, nested, tempering, variational
from eagleray.inference.samplers.chains import Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One way to sample.

    Attributes:
        run: `run(task, **options) -> Outcome`.
        about: What it is good for, for people to read.
        reference: Paper.
        needs_prior: Whether prior and likelihood must be known apart.
        starts: Whether its chains start at given positions; else they start from the prior.
        approximate: Whether its draws come from an approximation.
    """

    run: Callable[..., Outcome]
    about: str
    reference: str
    needs_prior: bool = False
    starts: bool = True
    approximate: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options and their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


METHODS: Mapping[str, Method] = {
    "nuts": Method(
        run=gradient.nuts,
        about="gradients, trajectories of their own length; the default",
        reference="Hoffman & Gelman (2014), JMLR 15, 1593",
    ),
    "hmc": Method(
        run=gradient.hmc,
        about="gradients, trajectories of random length",
        reference="Duane et al. (1987), Phys. Lett. B 195, 216; Neal (2011), Handbook of MCMC",
    ),
    "mclmc": Method(
        run=microcanonical.mclmc,
        about="gradients, many parameters; no accept step, so a small bias",
        reference="Robnik, De Luca, Silverstein & Seljak (2023), JMLR 24, 311",
    ),
    "adjusted_mclmc": Method(
        run=microcanonical.adjusted_mclmc,
        about="gradients, many parameters; with an accept step",
        reference="Robnik, Cohn-Gordon & Seljak (2025), arXiv:2503.01707",
    ),
    "mala": Method(
        run=gradient.mala,
        about="gradients, one step each: cheap steps, many of them",
        reference="Roberts & Tweedie (1996), Bernoulli 2, 341",
    ),
    "barker": Method(
        run=gradient.barker,
        about="gradients, one step each, robust to a wrong scale",
        reference="Livingstone & Zanella (2022), JRSS B 84, 496",
    ),
    "random_walk": Method(
        run=gradient_free.random_walk,
        about="no gradients: likelihoods that cannot be differentiated",
        reference="Metropolis et al. (1953), J. Chem. Phys. 21, 1087; Haario et al. (2001), Bernoulli 7, 223",
    ),
    "elliptical_slice": Method(
        run=gradient_free.elliptical_slice,
        about="no gradients and nothing to tune: likelihoods not much narrower than the prior",
        reference="Murray, Adams & MacKay (2010), AISTATS; Nishihara, Murray & Adams (2014), JMLR 15, 2087",
        needs_prior=True,
    ),
    "tempered_smc": Method(
        run=tempering.tempered_smc,
        about="no gradients; several modes; evidence",
        reference="Del Moral, Doucet & Jasra (2006), JRSS B 68, 411",
        needs_prior=True,
        starts=False,
    ),
    "nested": Method(
        run=nested.nested,
        about="no gradients; several modes; evidence",
        reference="Skilling (2006), Bayesian Analysis 1, 833; Yallup, Kroupa & Handley (2026), arXiv:2601.23252",
        needs_prior=True,
        starts=False,
    ),
    "pathfinder": Method(
        run=variational.pathfinder,
        about="a Gaussian found along an optimiser's path: fast, approximate",
        reference="Zhang, Carpenter, Gelman & Vehtari (2022), JMLR 23, 306",
        approximate=True,
    ),
    "multi_pathfinder": Method(
        run=variational.multi_pathfinder,
        about="several such paths, resampled by importance: fast, approximate",
        reference="Zhang, Carpenter, Gelman & Vehtari (2022), JMLR 23, 306",
        approximate=True,
    ),
    "fullrank_vi": Method(
        run=variational.fullrank_vi,
        about="the closest Gaussian: approximate",
        reference="Kucukelbir et al. (2017), JMLR 18, 14",
        approximate=True,
    ),
}


def find_method(name: str, options: Mapping[str, Any]) -> Method:
    """A method by name, with options that it knows.

    Raises:
        InputError: If there is no such method, or it has no such option.
    """
    if name not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    known = METHODS[name].options
    for option in options:
        if option not in known:
            raise InputError(f"options of {name} must be among {', '.join(known)}, got {option!r}")
    return METHODS[name]
