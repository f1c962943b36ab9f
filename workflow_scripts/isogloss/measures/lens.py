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


def phrase_means(
    log_probability: np.ndarray, targets: Mapping[str, np.ndarray], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of phrases and of their first tokens, from those of their tokens.

    Of a phrase that is scored several times (a letter, at each rotation of the choices) it is the
    mean.

    Args:
        log_probability: (target,) of tokens [nat].
        targets: (target,) item, latent, choice and position of each.
        shape: (item, latent, choice).

    Returns:
        Two arrays of that shape [nat], NaN where there is no such phrase.
    """
    place = (targets["item"], targets["latent"], targets["choice"])
    begins = targets["position"] == 0
    of_first = tuple(column[begins] for column in place)
    times, total, first = np.zeros((3, *shape))
    np.add.at(times, of_first, 1)
    np.add.at(total, place, log_probability)
    np.add.at(first, of_first, log_probability[begins])
    times[times == 0] = np.nan
    return total / times, first / times
