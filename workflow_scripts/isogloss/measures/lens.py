"""Arithmetic of the logit lens around the model: which layers, which rows, which sums."""

from collections.abc import Mapping

import numpy as np


def lens_layers(n_layers: int, wanted: int | str | list[float]) -> list[int]:
    """Layers of the lens: "all", a number of them evenly spread, or relative depths.

    Args:
        n_layers: blocks of the model; layers run from 0 (embedding) to n_layers.
        wanted: as in the configuration's `extraction.lens_layers`; 0 keeps no rows.

    >>> lens_layers(18, 4)
    [0, 6, 12, 18]
    >>> lens_layers(18, [0.5, 1.0])
    [9, 18]
    """
    if wanted == "all":
        return list(range(n_layers + 1))
    if isinstance(wanted, int):
        if wanted == 0:
            return []
        depths = np.linspace(0, 1, wanted) if wanted > 1 else np.ones(1)
    else:
        depths = np.asarray(wanted, dtype=float)
    return sorted({round(float(d) * n_layers) for d in depths})


def distinct_rows(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states without repetition: at the embedding there are as many as different tokens.

    Args:
        states: (row, feature).

    Returns:
        (distinct, feature), and (row,) where each row is among them.

    >>> found, place = distinct_rows(np.array([[1.0, 2.0], [0.0, 3.0], [1.0, 2.0]]))
    >>> found[place].tolist()
    [[1.0, 2.0], [0.0, 3.0], [1.0, 2.0]]
    >>> len(found)
    2
    """
    start = np.ascontiguousarray(states[:, :4])  # above the embedding rows differ there already
    if len(np.unique(start.view(f"V{start.strides[0]}"))) == len(states):
        return states, np.arange(len(states))
    seen: dict[bytes, int] = {}
    numbers = (seen.setdefault(row.tobytes(), len(seen)) for row in states)
    place = np.fromiter(numbers, dtype=np.int64, count=len(states))
    _, first = np.unique(place, return_index=True)
    return states[first], place


def phrase_sums(
    log_probability: np.ndarray, targets: Mapping[str, np.ndarray], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of phrases and of their first tokens, from those of their tokens.

    Args:
        log_probability: (target,).
        targets: item, latent, choice and position of each target.
        shape: (item, latent, choice).

    Returns:
        Two arrays of that shape, NaN where there is no such phrase.
    """
    place = (targets["item"], targets["latent"], targets["choice"])
    total, first = np.zeros(shape), np.full(shape, np.nan)
    np.add.at(total, place, log_probability)
    begins = targets["position"] == 0
    first[tuple(p[begins] for p in place)] = log_probability[begins]
    return np.where(np.isnan(first), np.nan, total), first
