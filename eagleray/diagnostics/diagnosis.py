"""All that was asked of one trained posterior, in one record."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from eagleray.diagnostics.coverage import RegionCoverage
from eagleray.diagnostics.distances import SampleDistance
from eagleray.diagnostics.local_c2st import LocalC2st
from eagleray.diagnostics.predictive import StatisticCheck
from eagleray.diagnostics.rank_bands import RankBands
from eagleray.diagnostics.recovery import Recovery
from eagleray.diagnostics.verdicts import (
    Verdict,
    judge_coverage,
    judge_distance,
    judge_local_c2st,
    judge_rank_bands,
    judge_recovery,
    judge_reweighted,
    judge_statistics,
    judge_typicality,
)
from eagleray.inference.reweighting import Reweighted
from eagleray.records import Typicality


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A trained posterior on fresh simulations, and at one observation.

    Attributes:
        ranks: Ranks of true parameters, with simultaneous bands.
        density: Coverage of highest-density regions.
        points: Coverage of balls about random points (TARP).
        recovery: z-scores and contractions.
        typicality: The observation among the simulations that trained the network; None without an observation.
        local: The classifier test at the observation; None without one.
        statistics: Statistics of the observed data among those simulated from the posterior; empty without one.
        weighted: The posterior at the observation, weighed by the exact likelihood; None where there is none.
        distances: Draws of the posterior against those after weighing; empty where there are none.
        provenance: How to repeat it.
    """

    ranks: RankBands
    density: RegionCoverage
    points: RegionCoverage
    recovery: Recovery
    typicality: Typicality | None
    local: LocalC2st | None
    statistics: tuple[StatisticCheck, ...]
    weighted: Reweighted | None
    distances: tuple[SampleDistance, ...]
    provenance: Mapping[str, Any]

    @property
    def everywhere(self) -> tuple[Verdict, ...]:
        """Verdicts on the network over the whole prior: ranks, both coverages, recovery, in this order."""
        return (
            judge_rank_bands(self.ranks),
            judge_coverage(self.density),
            judge_coverage(self.points),
            judge_recovery(self.recovery),
        )

    @property
    def here(self) -> tuple[Verdict, ...]:
        """Verdicts on its answer to the observation."""
        verdicts = [] if self.typicality is None else [judge_typicality(self.typicality)]
        if self.local is not None:
            verdicts.append(judge_local_c2st(self.local))
        if self.statistics:
            verdicts.append(judge_statistics(self.statistics))
        if self.weighted is not None:
            verdicts.append(judge_reweighted(self.weighted))
        return (*verdicts, *map(judge_distance, self.distances))
