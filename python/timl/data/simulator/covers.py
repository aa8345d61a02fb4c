"""What grows or lies on a sample: 25 crops of nine FAO classes and seven non-crops, in numbers.

The numbers are our own round figures after textbook crop calendars and canopies, chosen so that
curves and spectra look like those of the real series that the package is tested on.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np

from timl.crop_classes import NON_CROP
from timl.data.simulator.draws import Floats, Integers


class Kind(enum.IntEnum):
    """Kind of a cover: the way its green part follows the year."""

    WARM = 0
    """A season that begins with warmth or rain."""
    COOL = 1
    """A season that ends before the summer, or before the heat."""
    WOODY = 2
    """Perennial: evergreen, or following the climate in part."""
    WILD = 3
    """Not sown: follows the climate."""
    DEAD = 4
    """Hardly any vegetation."""


class Regime(enum.IntEnum):
    """Regime of a climate: its seasons."""

    EQUATORIAL = 0
    WET_DRY = 1
    MONSOON = 2
    MEDITERRANEAN = 3
    MID_LATITUDE = 4


class Cover(NamedTuple):
    """One crop or non-crop.

    Parameters
    ----------
    label, classification_label
        Label and FAO class, as in labels.geojson.
    kind
        Way it follows the year.
    regimes
        Climates it grows in: initials of E(quatorial), W(et-dry), M(onsoon), S (mediterranean
        summers) and T(emperate, mid-latitude).
    delay
        Days from the season's begin (WARM) or usual middle (COOL) to the middle of its green time.
    length
        Length of its green time, days.
    rise, fall
        Slowness of its greening and senescing, days.
    peak
        Largest green cover, 0 to 1.
    evergreen
        WOODY and WILD: the share of the cover that does not follow the climate, 0 to 1.
    bulk
        Volume that scatters radar, per green cover.
    pigment, structure, water
        Leaf: absorption of visible light, near-infrared reflectance, absorption in the
        short-wave infrared; 1 is usual.
    irrigated
        Share of irrigated fields in a dry climate, 0 to 1.
    cuts
        Largest share of the cover that a cut or grazing takes, 0 to 1.
    """

    label: str
    classification_label: str
    kind: Kind
    regimes: str
    delay: float
    length: float
    rise: float
    fall: float
    peak: float
    evergreen: float
    bulk: float
    pigment: float
    structure: float
    water: float
    irrigated: float
    cuts: float


_W, _C, _P, _N, _D = Kind.WARM, Kind.COOL, Kind.WOODY, Kind.WILD, Kind.DEAD

# fmt: off
COVERS = tuple(Cover(*row) for row in (
    # label, class, kind, regimes, delay, length, rise, fall, peak, evergreen, bulk,
    # pigment, structure, water, irrigated, cuts
    ("maize", "cereals", _W, "EWMST", 82, 84, 9, 10, .90, 0, 1.5, 1.00, .98, 1.00, .3, 0),
    ("wheat", "cereals", _C, "MST", 8, 96, 19, 9, .88, 0, .9, .98, 1.00, .95, .2, 0),
    ("barley", "cereals", _C, "ST", -4, 86, 18, 8, .84, 0, .8, .92, 1.02, .92, .1, 0),
    ("rice", "cereals", _W, "EWMS", 90, 86, 10, 10, .90, 0, 1.0, 1.00, .95, 1.20, 1, 0),
    ("sorghum", "cereals", _W, "EWM", 88, 80, 11, 14, .76, 0, 1.4, .95, .95, .90, .1, 0),
    ("millet", "cereals", _W, "WM", 66, 60, 9, 9, .66, 0, .9, .92, .98, .88, 0, 0),
    ("tomato", "vegetables_melons", _W, "MS", 70, 66, 11, 10, .62, 0, .7, .98, 1.02, 1.12, .9, 0),
    ("onion", "vegetables_melons", _C, "EMST", 6, 80, 16, 8, .44, 0, .4, 1.00, .95, 1.10, .7, 0),
    ("grapes", "fruits_nuts", _P, "ST", 0, 0, 0, 0, .48, .10, .8, 1.00, .92, .95, .4, 0),
    ("citrus", "fruits_nuts", _P, "MSW", 0, 0, 0, 0, .66, .85, 1.3, 1.12, .88, 1.05, .8, 0),
    ("orchard", "fruits_nuts", _P, "ST", 0, 0, 0, 0, .70, .20, 1.2, 1.05, .95, 1.00, .4, 0),
    ("soybean", "oilseeds", _W, "WMT", 96, 72, 11, 8, .90, 0, .8, .96, 1.14, 1.05, .1, 0),
    ("sunflower", "oilseeds", _W, "ST", 76, 64, 9, 9, .80, 0, 1.4, .80, 1.06, 1.02, .2, 0),
    ("rapeseed", "oilseeds", _C, "T", -12, 118, 15, 10, .90, 0, 1.4, .80, 1.06, 1.10, 0, 0),
    ("groundnut", "oilseeds", _W, "EWM", 74, 78, 12, 11, .72, 0, .5, .96, 1.10, 1.05, .2, 0),
    ("olive", "oilseeds", _P, "S", 0, 0, 0, 0, .42, .90, .9, 1.08, .78, .80, .2, 0),
    ("potato", "root_tuber", _W, "ET", 66, 66, 9, 9, .84, 0, .7, .98, 1.08, 1.15, .4, 0),
    ("cassava", "root_tuber", _W, "EW", 150, 200, 26, 24, .70, 0, 1.1, .98, 1.02, .95, 0, 0),
    ("coffee", "beverage_spice", _P, "EW", 0, 0, 0, 0, .76, .80, 1.2, 1.12, .90, 1.00, .1, 0),
    ("bean", "leguminous", _W, "EWT", 54, 50, 8, 7, .78, 0, .5, .94, 1.08, 1.05, .2, 0),
    ("chickpea", "leguminous", _C, "MS", 4, 84, 15, 8, .64, 0, .4, .92, 1.04, .95, .1, 0),
    ("sugarcane", "sugar", _W, "EWM", 172, 250, 30, 26, .90, 0, 1.6, 1.00, .98, 1.05, .5, 0),
    ("sugar beet", "sugar", _W, "ST", 122, 132, 13, 22, .92, 0, .8, .98, 1.10, 1.22, .4, 0),
    ("cotton", "other", _W, "WMS", 116, 76, 13, 11, .78, 0, .9, .96, 1.02, 1.00, .6, 0),
    ("alfalfa", "other", _W, "ST", 108, 205, 16, 16, .84, 0, .6, 1.02, 1.10, 1.10, .7, .55),
    ("permanent grassland", NON_CROP, _N, "", 0, 0, 0, 0, .84, .14, .45, .95, 1.05, 1.00, 0, .35),
    ("forest", NON_CROP, _N, "", 0, 0, 0, 0, .94, .55, 2.2, 1.25, .82, 1.10, 0, 0),
    ("shrubland", NON_CROP, _N, "", 0, 0, 0, 0, .56, .35, 1.1, 1.02, .88, .85, 0, 0),
    ("bare", NON_CROP, _D, "", 0, 0, 0, 0, .07, .2, .1, 1.00, .90, .80, 0, 0),
    ("water", NON_CROP, _D, "", 0, 0, 0, 0, .00, 0, 0, 1.00, 1.00, 1.00, 0, 0),
    ("built-up", NON_CROP, _D, "", 0, 0, 0, 0, .26, .35, .5, 1.00, .95, .90, 0, 0),
    ("fallow", NON_CROP, _N, "", 0, 0, 0, 0, .46, .02, .35, .90, 1.00, .90, 0, .30),
))
# fmt: on
"""All covers, the crops first."""

CROPS = tuple(i for i, cover in enumerate(COVERS) if cover.classification_label != NON_CROP)
"""Numbers of the crops in `COVERS`."""

NON_CROPS = tuple(i for i, cover in enumerate(COVERS) if cover.classification_label == NON_CROP)
"""Numbers of the non-crops in `COVERS`."""

_INITIALS = dict(zip(Regime, "EWMST", strict=True))


def number(label: str) -> int:
    """Return a cover's number in `COVERS`."""
    return next(i for i, cover in enumerate(COVERS) if cover.label == label)


def grown_in(regime: Regime) -> Integers:
    """Return the numbers of the crops that grow in a regime."""
    return np.array([i for i in CROPS if _INITIALS[regime] in COVERS[i].regimes], np.int64)


def column(field: str, covers: Integers) -> Floats:
    """Return one field of some covers, float64 [n]."""
    return np.array([getattr(cover, field) for cover in COVERS], np.float64)[covers]
