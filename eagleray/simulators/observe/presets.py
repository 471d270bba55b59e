"""Detectors of X-ray timing missions. Every number has its source beside it; what has no source is None.

"SIXTE" is the instrument file of that name in the simulator of Dauser et al. (2019), A&A 630, A66.

A preset is a starting point, not a calibration: dead times drift, modes differ, and the header of a file knows better.
Rates are per detector. `DETECTORS` holds all presets by name.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

DeadTimeKind = Literal["non-paralyzable", "paralyzable"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """How an instrument records events (static). None: no source found, or it does not apply.

    Attributes:
        name: Mission, instrument and mode.
        n_detectors: Detectors that record independently of each other.
        dead_time: Mean dead time after an ordinary event [s].
        dead_time_sd: Standard deviation of the dead time from event to event [s].
        large_event_dead_time: Dead time after an event above the upper threshold [s].
        kind: Whether lost events extend the dead time.
        time_resolution: Step of the recorded times [s].
        frame_time: Time from one read-out to the next [s], for detectors read in frames.
        integration_time: Part of a frame during which photons are collected at their place [s].
        live_fraction: Fraction of the time in which the detector records at all, apart from dead time of events.
        max_rate: Highest rate that can be recorded [counts/s].
        pile_up_rate: Rate above which pile-up matters [counts/s].
    """

    name: str
    n_detectors: int
    dead_time: float | None = None
    dead_time_sd: float | None = None
    large_event_dead_time: float | None = None
    kind: DeadTimeKind | None = None
    time_resolution: float | None = None
    frame_time: float | None = None
    integration_time: float | None = None
    live_fraction: float | None = None
    max_rate: float | None = None
    pile_up_rate: float | None = None

    def __post_init__(self) -> None:
        """Refuse impossible detectors."""
        if self.n_detectors < 1:
            raise ValueError(f"n_detectors must be at least 1, got {self.n_detectors!r}")
        if self.kind not in (None, "non-paralyzable", "paralyzable"):
            raise ValueError(f"kind must be 'non-paralyzable', 'paralyzable' or None, got {self.kind!r}")
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not 0 < value < math.inf:
                raise ValueError(f"{field.name} must be positive and finite, got {value!r}")

    def ticks(self, duration: float) -> int:
        """Convert a time to ticks of the detector's clock, the nearest whole number.

        Args:
            duration: Time [s].

        Returns:
            Number of ticks of `time_resolution`.

        Raises:
            ValueError: If the detector has no known time resolution.
        """
        if self.time_resolution is None:
            raise ValueError(f"time_resolution must be known to count in ticks, got None for {self.name}")
        return round(duration / self.time_resolution)


NUSTAR = Detector(
    name="NuSTAR FPM",
    n_detectors=2,
    dead_time=2.5e-3,
    dead_time_sd=0.21e-3,
    kind="non-paralyzable",
    max_rate=400.0,
)
"""NuSTAR, the two focal plane modules.

References:
    n_detectors, dead_time: Bachetti et al. (2015), ApJ 800, 109, abstract ("two completely independent focal planes",
    about 2.5 ms, varying by a few percent). kind: NuSTAR Observatory Guide, section 3.4.4, and Bachetti et al. (2015).
    dead_time_sd: distribution in the code of Huppenkothen & Bachetti (2022), MNRAS 511, 5689 (mean 2.54, sd 0.21 ms).
    max_rate: 1 / dead_time.
"""

IXPE = Detector(
    name="IXPE DU",
    n_detectors=3,
    dead_time=1.08e-3,
    kind="non-paralyzable",
    time_resolution=1e-6,
    max_rate=1 / 1.08e-3,
)
"""IXPE, the three detector units.

References:
    n_detectors: Soffitta et al. (2021), AJ 162, 208, abstract. dead_time: ixpeobssim, utils/argparse_.py, default of
    --deadtime ("average dead time per event in s"). kind: ixpeobssim, evt/event.py, where the live time before an event
    is the time since the one recorded before it, less the dead time. time_resolution: the columns SEC and MICROSEC,
    ibidem. max_rate: 1 / dead_time.
"""

RXTE_PCA = Detector(
    name="RXTE PCA",
    n_detectors=5,
    dead_time=10e-6,
    large_event_dead_time=150e-6,
    kind="non-paralyzable",
    time_resolution=1e-6,
)
"""RXTE PCA, the five proportional counter units. All events paralyse: propane, coincident and very large ones too.

References:
    dead_time, large_event_dead_time: HEASARC, "PCA Deadtime", docs/xte/whatsnew/deadtime.html (10 us; 150 us for VLE).
    kind: the same page corrects with C' = C / (1 - C DT), the non-paralyzable relation. n_detectors, time_resolution:
    HEASARC, docs/xte/learning_center/pca.html.
"""

NICER = Detector(name="NICER XTI", n_detectors=56, time_resolution=40e-9)
"""NICER XTI, the 56 focal plane modules (not all of them switched on).

References:
    n_detectors: NICER Mission Guide, "Overview of NICER". time_resolution: period of the oscillator of about 25 MHz
    behind the time stamps, NICER Analysis Tips & Caveats (absolute times are good to 300 ns). dead_time, kind: no
    source found for a number; Webbe & Young (2024), arXiv 2409.12574, find its effect small.
"""

ASTROSAT_LAXPC = Detector(name="AstroSat LAXPC", n_detectors=3, dead_time=42e-6, time_resolution=10e-6)
"""AstroSat LAXPC, three proportional counters.

References:
    n_detectors, dead_time, time_resolution: Antia et al. (2017), ApJS 231, 10, abstract (arXiv 1702.08624). kind: no
    source found.
"""

FERMI_GBM = Detector(
    name="Fermi GBM",
    n_detectors=14,
    dead_time=2.6e-6,
    large_event_dead_time=10.417e-6,
    time_resolution=2e-6,
)
"""Fermi GBM time-tagged events: 12 NaI and 2 BGO detectors.

References:
    n_detectors: Fermi Science Support Center, science/instruments/gbm.html. dead_time, large_event_dead_time: keywords
    EVT_DEAD and EVTDEDHI (overflow channel) of time-tagged event files, here glg_tte_n3_bn080916009. time_resolution:
    Bhat et al. (2007), AIP Conf. Proc. 921, 524 (2 us), and the times in that file. kind: no source found.
"""

XMM_PN_FULL_FRAME = Detector(
    name="XMM EPIC-pn full frame",
    n_detectors=1,
    frame_time=73.358e-3,
    integration_time=68.75e-3,
)
"""XMM-Newton EPIC-pn, full frame. The source falls on one CCD.

References:
    frame_time, integration_time: SIXTE, share/instruments/xmm/epicpn/fullframe.xml (68.75 ms + 200 lines of 23.04 us);
    Kuster et al. (1999), Proc. SPIE 3765, abstract, has 73.3 ms.
"""

XMM_PN_SMALL_WINDOW = Detector(
    name="XMM EPIC-pn small window",
    n_detectors=1,
    frame_time=5.6346e-3,
    integration_time=3.97e-3,
    live_fraction=3.97 / 5.6346,
)
"""XMM-Newton EPIC-pn, small window.

References:
    frame_time, integration_time: SIXTE, share/instruments/xmm/epicpn/smallwindow.xml (3.97 ms, then 200 fast shifts of
    0.72 us and 66 lines of 23.04 us). live_fraction: their ratio, 0.70.
"""

XMM_PN_TIMING = Detector(
    name="XMM EPIC-pn timing",
    n_detectors=1,
    frame_time=29.5e-6,
    time_resolution=29.5e-6,
    pile_up_rate=400.0,
)
"""XMM-Newton EPIC-pn, timing mode: ten lines are collapsed into one "frame".

References:
    frame_time, time_resolution: SIXTE, share/instruments/xmm/epicpn/timing.xml (10 shifts of 0.72 us + 22.3 us, from
    the thesis of M. Kirsch, 2000). pile_up_rate: XMM-Newton AO policy, section 5.6.5 (brightest sources, > 400 c/s).
"""

XMM_PN_BURST = Detector(
    name="XMM EPIC-pn burst", n_detectors=1, frame_time=7.2e-6, time_resolution=7.2e-6, live_fraction=0.03
)
"""XMM-Newton EPIC-pn, burst mode.

References:
    frame_time, time_resolution: Kuster et al. (2002), ESA SP-488, section 1 (arXiv astro-ph/0203207). live_fraction:
    XMM-Newton Users Handbook, "Science modes of the EPIC cameras" (duty cycle of 3 %).
"""

SWIFT_XRT_PC = Detector(name="Swift XRT photon counting", n_detectors=1, frame_time=2.5073, time_resolution=2.5073)
"""Swift XRT, photon counting.

References:
    frame_time, time_resolution: steps between the times of cleaned event files (for example 125040685.242672 to
    125040687.749932 s in the data set astro-legacy-archive/swift-xrt-cleaned-events).
"""

SWIFT_XRT_WT = Detector(name="Swift XRT windowed timing", n_detectors=1, pile_up_rate=300.0)
"""Swift XRT, windowed timing. Take the frame time from the keyword TIMEDEL of the file: no source was found for it.

References:
    pile_up_rate: Mineo et al. (2006), Nuovo Cimento B 121, 1521, abstract (severe above about 300 counts/s).
"""

DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        "nustar": NUSTAR,
        "ixpe": IXPE,
        "rxte_pca": RXTE_PCA,
        "nicer": NICER,
        "astrosat_laxpc": ASTROSAT_LAXPC,
        "fermi_gbm": FERMI_GBM,
        "xmm_pn_full_frame": XMM_PN_FULL_FRAME,
        "xmm_pn_small_window": XMM_PN_SMALL_WINDOW,
        "xmm_pn_timing": XMM_PN_TIMING,
        "xmm_pn_burst": XMM_PN_BURST,
        "swift_xrt_pc": SWIFT_XRT_PC,
        "swift_xrt_wt": SWIFT_XRT_WT,
    }
)
"""All presets by name."""
