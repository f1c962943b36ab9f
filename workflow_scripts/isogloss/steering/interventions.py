"""Interventions on the residual stream and their controls, read from fitted vectors.

All have one form, so that applying them takes one line in any array library:

    steered = h + alpha * (shift + ((h - centre) @ down.T) @ up)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.study.steering_methods import CONTROLS, METHODS

# Below this share of its length outside another vector, a vector has no direction of its own there.
PARALLEL = 1e-4


@dataclass(frozen=True)
class Intervention:
    """A change of the residual stream at one layer: affine, of low rank.

    `steered = h + alpha * (shift + ((h - centre) @ down.T) @ up)`, h in the units of the
    residual stream, alpha the strength (1 is the whole change).

    Attributes:
        shift: (feature,) the constant part.
        centre: (feature,) the point at which the rest vanishes.
        down: (k, feature) directions read; k is 0 where the change is a constant shift.
        up: (k, feature) directions written.

    Raises:
        ValueError: the arrays do not fit one another.
    """

    shift: np.ndarray
    centre: np.ndarray
    down: np.ndarray
    up: np.ndarray

    def __post_init__(self) -> None:
        width = self.shift.shape[-1]
        same_width = {a.shape[-1] for a in (self.centre, self.down, self.up)} == {width}
        if self.shift.ndim != 1 or not same_width or self.down.shape != self.up.shape:
            shapes = [a.shape for a in (self.shift, self.centre, self.down, self.up)]
            raise ValueError(f"shift, centre, down and up do not fit one another: {shapes}")

    def displacement(self, states: np.ndarray) -> np.ndarray:
        """What alpha = 1 adds to states (..., feature)."""
        return self.shift + ((states - self.centre) @ self.down.T) @ self.up

    def reversed(self) -> "Intervention":
        """The same change in the other direction."""
        return Intervention(-self.shift, self.centre, self.down, -self.up)


def constant_shift(shift: np.ndarray) -> Intervention:
    """The intervention that adds `shift` (feature,) to every state."""
    none = np.zeros((0, shift.shape[-1]), shift.dtype)
    return Intervention(shift, np.zeros_like(shift), none, none)


def map_factors(
    source: np.ndarray, target: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression towards the identity, as the low-rank factors of the change.

    Minimises ||target - source (I + M)||^2 + penalty ||M||^2, so that what the items do not
    span is left as it is. M = down.T @ up, of rank at most the number of items.

    Args:
        source, target: (item, feature) centred states of the same items in two languages.
        penalty: squared units of the states; infinite gives M = 0.

    Returns:
        down, up: (item, feature) each.

    Source: ridge regression in the dual form; towards the identity: our choice.
    """
    if np.isinf(penalty):
        return source, np.zeros_like(source)
    gram = source @ source.T + penalty * np.eye(len(source))
    return source, np.linalg.solve(gram, target - source)


def intervention(
    vectors: xr.Dataset,
    method: str,
    *,
    language: str,
    fold: int,
    layer: int,
    pooling: str = "prompt_mean",
) -> Intervention:
    """One method's intervention on one language at one layer, for the items of one fold.

    Args:
        vectors: from `fit_vectors`.
        method: of METHODS.
        language: language of the prompts steered.
        fold: fold of the items steered; ALL_ITEMS for another dataset's items.
        layer: layer steered.
        pooling: "prompt_mean" for steering all tokens, "prompt_last" for the last one.

    Raises:
        InputError: the vectors do not hold what is asked for.
    """
    if method not in METHODS:
        raise InputError(f"steering: no method {method!r}: use {', '.join(METHODS)}")
    at = _select(vectors, fold=fold, layer=layer, pooling=pooling)
    pivot_mean = at["mean"].sel(language=vectors.attrs["pivot"]).values
    mean = at["mean"].sel(language=_known(vectors, "language", language)).values
    overall = at["overall_mean"].values
    match method:
        case "mean_difference":
            return constant_shift(pivot_mean - mean)
        case "shared_centroid":
            return constant_shift(overall - mean)
        case "shared_projection":
            basis = at["basis"].values
            return Intervention(np.zeros_like(mean), pivot_mean, basis, -basis)
    if "state" not in at:
        raise InputError("steering: these vectors hold no linear_map: fit them with that method")
    states = at["state"].isel(item=np.flatnonzero(at["in_fit"].values))
    source = states.sel(language=language).values.astype(np.float64) - mean
    aim = states.sel(language=vectors.attrs["pivot"]).values.astype(np.float64) - pivot_mean
    down, up = map_factors(source, aim, float(at["map_penalty"].sel(language=language)))
    return Intervention(pivot_mean - mean, mean, down.astype(np.float32), up.astype(np.float32))


def control(
    vectors: xr.Dataset,
    name: str,
    *,
    method: str = "mean_difference",
    language: str,
    fold: int,
    layer: int,
    pooling: str = "prompt_mean",
    draw: int = 0,
) -> Intervention:
    """A control of `intervention`, as strong as it is and wrong in one respect.

    `random`, `shuffled_language`, `shuffled_orthogonal` and `wrong_layer` are constant shifts
    with the norm of what the method does to the mean of the language, so that only the direction
    differs: one with the states' covariance, the same in all folds and languages; that of another
    language (the `draw`-th next by tag); the same without its part along the method's own, which
    may be most of it; that of the fitted layer farthest away. No shift where there is no such
    direction, as where the states do not vary. `reverse` is the method negated; `zero` adds
    nothing.

    Raises:
        InputError: an unknown control, or one that needs another language, layer or draw.
    """
    where: dict[str, Any] = {"fold": fold, "pooling": pooling}
    change = intervention(vectors, method, language=language, layer=layer, **where)
    if name == "zero":
        return constant_shift(np.zeros_like(change.shift))
    if name == "reverse":
        return change.reversed()
    at = _select(vectors, fold=fold, layer=layer, pooling=pooling)
    shift = change.displacement(at["mean"].sel(language=language).values)
    norm = np.linalg.norm(shift)
    if name == "random":
        _known(vectors, "draw", draw)
        direction = at["random"].isel(draw=draw).values
    elif name in ("shuffled_language", "shuffled_orthogonal"):
        direction = _mean_displacement(
            vectors, method, other_language(vectors, language, draw), layer, where
        )
        if name == "shuffled_orthogonal" and norm > 0:
            whole, unit = np.linalg.norm(direction), shift / norm
            direction = direction - (direction @ unit) * unit
            if np.linalg.norm(direction) < PARALLEL * whole:
                direction = np.zeros_like(direction)
    elif name == "wrong_layer":
        direction = _mean_displacement(
            vectors, method, language, farthest_layer(vectors, layer), where
        )
    else:
        raise InputError(f"steering: no control {name!r}: use {', '.join(CONTROLS)}")
    length = np.linalg.norm(direction)
    if not length > 0:  # NaN too: states that do not vary
        return constant_shift(np.zeros_like(change.shift, dtype=np.float32))
    return constant_shift((direction * (norm / length)).astype(np.float32))


def cosine_at_mean(
    vectors: xr.Dataset,
    change: Intervention,
    other: Intervention,
    *,
    language: str,
    fold: int,
    layer: int,
    pooling: str,
) -> float:
    """Cosine of what two changes add to a language's mean state; NaN where one adds nothing."""
    at = _select(vectors, fold=fold, layer=layer, pooling=pooling)
    mean = at["mean"].sel(language=language).values
    first, second = (c.displacement(mean).astype(np.float64) for c in (change, other))
    length = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / length) if length > 0 else float("nan")


def _mean_displacement(
    vectors: xr.Dataset, method: str, language: str, layer: int, where: dict[str, Any]
) -> np.ndarray:
    """What a method adds to the mean of its own language, (feature,)."""
    change = intervention(vectors, method, language=language, layer=layer, **where)
    at = _select(vectors, fold=where["fold"], layer=layer, pooling=where["pooling"])
    return change.displacement(at["mean"].sel(language=language).values)


def other_language(vectors: xr.Dataset, language: str, draw: int = 0) -> str:
    """The language whose vector stands in for `language`: never itself, never the pivot.

    The `draw`-th after it in the order of tags, from the first again after the last.

    Raises:
        InputError: there is no third language.
    """
    known = sorted(str(tag) for tag in vectors["language"].values)
    others = [tag for tag in known if tag not in (language, vectors.attrs["pivot"])]
    others.sort(key=lambda tag: tag < language)  # stable: those after it first
    if not others:
        raise InputError("steering: shuffled_language needs a third language: add one")
    return others[draw % len(others)]


def farthest_layer(vectors: xr.Dataset, layer: int) -> int:
    """The fitted layer farthest from `layer` in relative depth; the lower one of two.

    Raises:
        InputError: only one layer is fitted.
    """
    if vectors.sizes["layer"] < 2:
        raise InputError("steering: wrong_layer needs vectors at two layers: fit another layer")
    depth = vectors["relative_depth"]
    distance = np.abs(depth.values - float(depth.sel(layer=layer)))
    return int(vectors["layer"].values[np.argmax(distance.round(9))])


def _select(vectors: xr.Dataset, *, fold: int, layer: int, pooling: str) -> xr.Dataset:
    """The vectors of one fold, layer and pooling."""
    for name, value in (("fold", fold), ("layer", layer), ("pooling", pooling)):
        _known(vectors, name, value)
    return vectors.sel(fold=fold, layer=layer, pooling=pooling)


def _known(vectors: xr.Dataset, name: str, value: str | int) -> str | int:
    """The value, if the dimension has it; a dimension without coordinate counts from 0."""
    known = vectors[name].values.tolist()
    if value not in known:
        raise InputError(f"steering: no vectors for {name} {value!r}: they hold {known}")
    return value
