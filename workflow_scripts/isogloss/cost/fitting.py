"""The shares of a machine's rates that the programs reach, out of what finished jobs took."""

from collections.abc import Mapping, Sequence

import numpy as np

from isogloss.cost.costs import Cost

CAUTION = 0.05
"""An inverse share that doubles weighs as much as a run time that is wrong by this part."""


def fitted_shares(
    share: Mapping[str, float], predicted: Sequence[Cost], measured: Sequence[float]
) -> dict[str, float]:
    """Shares with which the predictions come as near to the measurements as they can.

    Time is linear in the inverse of each share, so these are least squares, of relative errors.
    A change has its price, `CAUTION`: what the jobs hardly tell apart stays about as it is, what
    they do not have exactly so.

    Args:
        share: those that the predictions were made with.
        predicted: costs of jobs.
        measured: their run times [s].

    >>> jobs = [Cost(10.0, at_full_rate={"lens": 4.0}), Cost(3.0, at_full_rate={"lens": 1.0})]
    >>> fitted_shares({"lens": 0.5, "steer": 0.9}, jobs, [6.0, 2.0])
    {'lens': 1.0, 'steer': 0.9}
    """
    took = np.array(measured)
    parts = np.array(
        [[job.at_full_rate.get(name, 0.0) / share[name] for name in share] for job in predicted]
    )
    missing = took - [job.seconds for job in predicted]
    weighted = np.vstack([parts / took[:, None], CAUTION * np.eye(len(share))])
    more, *_ = np.linalg.lstsq(weighted, np.append(missing / took, np.zeros(len(share))))
    return {
        name: round(old / (1 + change), 2) if change > -1 else old
        for (name, old), change in zip(share.items(), more.tolist(), strict=True)
    }
