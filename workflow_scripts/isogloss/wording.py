"""Numbers as figures and the summary say them."""

import numpy as np
import xarray as xr


def span_of_points(shares: xr.DataArray) -> str:
    """The range of some differences in whole percentage points; a dash where none is known.

    >>> span_of_points(xr.DataArray([0.07, 0.13])), span_of_points(xr.DataArray(np.nan))
    ('7 to 13 points', '–')
    """
    known = 100 * shares.values[np.isfinite(shares.values)]
    if not known.size:
        return "–"
    ends = dict.fromkeys(f"{end:.0f}" for end in (known.min(), known.max()))
    return f"{' to '.join(ends)} points"
