"""Lens trajectories: what a model's layers say, and in which language (METHOD 4).

From the latent log-probabilities of choices, layer by layer: how often the layer's best choice is
right, whether languages rank the choices alike, whether the gold answer is likelier in the pivot
than in the prompt's own language, and from which layer on the answer stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import TIE, predictions, rank_correlation, ranks
from isogloss.measures.statistics import Interval, Resampling, accuracy_from, divide
from isogloss.measures.variables import interval_variables, variable

# Languages in which the choices are read; the mismatched rows only serve the log-odds.
LATENTS = ("prompt", "pivot", "control")
# Scores that the lens can give: lengths other than tokens are not kept for it.
LENS_SCORES = ("token", "sum")


# Kernels


def settling_index(predicted: np.ndarray) -> np.ndarray:
    """First layer from which on the prediction no longer changes: (..., layer) to (...) int.

    >>> settling_index(np.array([[2, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]])).tolist()
    [2, 0, 4]
    """
    stands = predicted == predicted[..., -1:]
    return predicted.shape[-1] - np.cumprod(stands[..., ::-1], axis=-1).sum(axis=-1)


def shuffled_settling(positions: np.ndarray, n_choices: np.ndarray) -> np.ndarray:
    """Where answers would settle if each layer had the item's choices in a random order.

    Exact, without draws: the prediction of every layer is then uniform over the choices, and equals
    the last layer's with probability 1 / n_choices.

    Args:
        positions: (layer,) number or relative depth of each layer, ascending.
        n_choices: (item,).

    Returns:
        (item,) expected position of the settling layer.

    Source: our choice.

    >>> shuffled_settling(np.array([0.0, 1.0, 2.0]), np.array([2])).tolist()
    [1.25]
    """
    n_layers = len(positions)
    from_here = (1 / np.asarray(n_choices, dtype=float))[:, None] ** np.arange(n_layers)[::-1]
    earlier = np.concatenate([np.zeros_like(from_here[:, :1]), from_here[:, :-1]], axis=1)
    return (from_here - earlier) @ np.asarray(positions, dtype=float)


def same_phrase(
    first: np.ndarray, second: np.ndarray, first_tokens: np.ndarray, second_tokens: np.ndarray
) -> np.ndarray:
    """Items whose two phrases are one string: as many tokens, as likely at every layer.

    Args:
        first, second: (layer, item) log-probabilities [nat].
        first_tokens, second_tokens: (item,).

    Returns:
        (item,) bool.
    """
    alike = (np.abs(first - second) <= TIE).all(axis=0)
    return alike & (first_tokens == second_tokens)


@dataclass(frozen=True)
class LogOdds:
    """Log-odds of the pivot against the prompt's language, (layer, item), NaN where left out.

    Attributes:
        raw: log p(gold in the pivot) - log p(gold in the prompt's language) [nat per token].
        corrected: raw minus the same for the gold answer of a mismatched item.
        first_token: as corrected, of the phrases' first tokens [nat].
    """

    raw: np.ndarray
    corrected: np.ndarray
    first_token: np.ndarray


def pivot_log_odds(lens: xr.Dataset) -> LogOdds:
    """How much likelier the gold answer is in the pivot, after one language's prompts.

    Items whose gold answer is spelled alike in both languages are left out; the corrected values
    also leave out items whose mismatched answer is. In the pivot's own prompts there is nothing
    to compare: all NaN.

    Args:
        lens: a lens file: `log_probability`, `first_token` (layer, item, latent, choice) [nat],
            `n_tokens` (item, latent, choice), `identical_to_pivot` (item, choice), `answer`.

    Source: the mismatched term is our choice: forced later tokens and byte fallback raise the
    likelihood of any phrase of a language, right or wrong.
    """
    answer, nothing = lens["answer"].values, np.zeros(lens.sizes["item"], dtype=int)
    gold, gold_first = _odds(lens, ("pivot", "prompt"), answer)
    mismatched = ("pivot_mismatched", "prompt_mismatched")
    other, other_first = _odds(lens, mismatched, nothing)
    alike = _of_phrase(lens, "identical_to_pivot", answer).astype(bool)
    alike_other = same_phrase(
        *(_of_phrase(lens.sel(latent=m), "log_probability", nothing) for m in mismatched),
        *(_of_phrase(lens.sel(latent=m), "n_tokens", nothing) for m in mismatched),
    )
    left_out = alike | (lens.attrs["language"] == lens.attrs["pivot"])
    left_out_corrected = left_out | alike_other
    return LogOdds(
        np.where(left_out, np.nan, gold),
        np.where(left_out_corrected, np.nan, gold - other),
        np.where(left_out_corrected, np.nan, gold_first - other_first),
    )


def _odds(
    lens: xr.Dataset, latents: tuple[str, str], choice: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of a phrase in the first latent language against the second.

    Args: choice (item,) which of the item's phrases.
    Returns: (layer, item) [nat per token], and the same of the first tokens [nat].
    """
    first, second = (lens.sel(latent=latent) for latent in latents)
    per_token = [
        divide(_of_phrase(f, "log_probability", choice), _of_phrase(f, "n_tokens", choice))
        for f in (first, second)
    ]
    first_token = [_of_phrase(f, "first_token", choice) for f in (first, second)]
    return per_token[0] - per_token[1], first_token[0] - first_token[1]


def _of_phrase(lens: xr.Dataset, name: str, choice: np.ndarray) -> np.ndarray:
    """A variable (..., item, choice) at one choice an item: (..., item) float."""
    values = lens[name].transpose(..., "item", "choice").values.astype(float)
    index = np.broadcast_to(choice[:, None], (*values.shape[:-1], 1))
    return np.take_along_axis(values, index, axis=-1)[..., 0]


# Labelled wrappers


def lens_scores(lens: xr.Dataset, score: str = "token") -> np.ndarray:
    """Latent scores of the choices: (latent, layer, item, choice), latents as `LATENTS`.

    NaN where the item has no such choice, or the file no such latent language.

    Args:
        lens: a lens file.
        score: "token" [nat per token] or "sum" [nat].
    """
    read = lens.sel(latent=list(LATENTS))
    sums = read["log_probability"].transpose("latent", "layer", "item", "choice").values
    values = np.asarray(sums, dtype=float)
    if score == "token":
        counts = read["n_tokens"].transpose("latent", "item", "choice").values
        values = divide(values, np.asarray(counts, dtype=float)[:, None])
    exists = np.arange(values.shape[-1]) < lens["n_choices"].values[:, None]
    return np.where(exists, values, np.nan)


def trajectories(
    lens: Mapping[str, xr.Dataset],
    score: str = "token",
    n_boot: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Trajectories over layers of all languages, with intervals over clusters of items.

    Args:
        lens: lens files by language; the same items and layers in each, the pivot among them.
        score: what ranks the choices: "token" or "sum". Log-odds are per token with either.
        n_boot, seed, confidence: of the cluster bootstrap, the same draws for all languages.

    Returns:
        Dataset over language, latent, layer, item and score: `latent_accuracy`,
        `latent_consistency` (and `_distinct`), `pivot_log_odds` (and `_raw`, `_first_token`),
        `pivot_share`, `settling_layer`, `settling_depth` (and `_shuffled`), each mean with
        `_low`, `_high`; `settles_at` per item; `settling_layer_by_score`.

    Raises:
        InputError: unknown score, no file of the pivot, or files that differ in items or layers.
    """
    if score not in LENS_SCORES:
        raise InputError(f"score: the lens has no {score!r}: use one of {', '.join(LENS_SCORES)}")
    files = _checked(lens)
    first = next(iter(files.values()))
    resampling = Resampling.of(
        first["cluster"].values, n_boot=n_boot, seed=seed, confidence=confidence
    )
    values = np.stack([lens_scores(file, score) for file in files.values()])
    predicted, present = _predicted(values)
    variables = {
        **_accuracy(predicted, present, first, resampling),
        **_consistency(values, files, resampling),
        **_log_odds(files, resampling),
        **_settling(predicted, present, first, resampling),
        **_settling_by_score(files),
    }
    variables["chance"] = variable(
        (), float(np.mean(1 / first["n_choices"].values)), "accuracy of guessing"
    )
    coordinates = {
        "language": list(files),
        "latent": list(LATENTS),
        "score": list(LENS_SCORES),
        "layer": first["layer"].values,
        "relative_depth": ("layer", first["relative_depth"].values),
        "item": first["item"].values,
    }
    settings = {"score": score, "n_boot": n_boot, "seed": seed, "confidence": confidence}
    dataset = xr.Dataset(variables, coordinates, settings | {"pivot": first.attrs["pivot"]})
    dataset["relative_depth"].attrs = {"long_name": "relative depth", "units": "1"}
    return dataset


def _checked(lens: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Lens files with ascending layers, all of the same items, layers and pivot."""
    if not lens:
        raise InputError("lens: no files: give one a language")
    files = {language: file.sortby("layer") for language, file in lens.items()}
    name, first = next(iter(files.items()))
    pivot = first.attrs["pivot"]
    if pivot not in files:
        raise InputError(f"lens: no file of the pivot {pivot}: add it")
    for language, file in files.items():
        if file.attrs["pivot"] != pivot:
            other = file.attrs["pivot"]
            raise InputError(f"lens of {language}: its pivot is {other}, not {pivot}: make it anew")
        for key in ("item", "layer", "answer", "n_choices", "cluster"):
            if not np.array_equal(file[key].values, first[key].values):
                raise InputError(
                    f"lens of {language}: {key} differs from that of {name}: "
                    "make both from the same dataset and layers"
                )
    return files


def _predicted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted choices (language, latent, layer, item), and which latents each language has."""
    present = np.isfinite(values).any(axis=-1).all(axis=(-2, -1))
    return predictions(values), present


def _where_present(interval: Interval, present: np.ndarray) -> Interval:
    """NaN where a language has no such latent; (language, latent, ...)."""
    shape = present.shape + (1,) * (interval.estimate.ndim - 2)
    kept = present.reshape(shape)
    return Interval(
        np.where(kept, interval.estimate, np.nan),
        np.where(kept, interval.low, np.nan),
        np.where(kept, interval.high, np.nan),
    )


def _mean(values: np.ndarray, resampling: Resampling) -> Interval:
    """Mean over items (last axis) with its interval; NaN entries are left out."""
    by_item = np.moveaxis(values, -1, 0)
    finite = np.isfinite(by_item)
    sums = resampling.sums(np.where(finite, by_item, 0.0))
    return resampling.interval(divide(sums, resampling.sums(finite)))


def _accuracy(
    predicted: np.ndarray, present: np.ndarray, first: xr.Dataset, resampling: Resampling
) -> dict[str, xr.Variable]:
    correct = np.moveaxis(predicted == first["answer"].values, -1, 0)
    interval = _where_present(accuracy_from(correct, resampling), present)
    dims = ("language", "latent", "layer")
    text = "accuracy of the layer's best choice"
    return interval_variables(
        "latent_accuracy", dims, interval, text, confidence=resampling.confidence
    )


def _consistency(
    values: np.ndarray, files: Mapping[str, xr.Dataset], resampling: Resampling
) -> dict[str, xr.Variable]:
    """Ranks of the choices in a language's own prompt against those in the pivot's."""
    first = next(iter(files.values()))
    n_choices, pivot = first["n_choices"].values, list(files).index(first.attrs["pivot"])
    ranked = ranks(values[:, LATENTS.index("prompt")], n_choices)
    rho = rank_correlation(ranked, ranked[pivot])
    rho[pivot] = np.nan
    exists = np.arange(values.shape[-1]) < n_choices[:, None]
    identical = np.stack(
        [f["identical_to_pivot"].transpose("item", "choice").values for f in files.values()]
    )
    distinct = ~np.any(identical.astype(bool) & exists, axis=-1)[:, None, :]
    text = "rank correlation of the choices with the pivot's prompt at this layer"
    found: dict[str, xr.Variable] = {}
    for name, kept, note in (
        ("latent_consistency", rho, text),
        (
            "latent_consistency_distinct",
            np.where(distinct, rho, np.nan),
            f"{text}, items without a choice spelled alike",
        ),
    ):
        interval = _mean(kept, resampling)
        found |= interval_variables(
            name, ("language", "layer"), interval, note, confidence=resampling.confidence
        )
    return found


def _log_odds(files: Mapping[str, xr.Dataset], resampling: Resampling) -> dict[str, xr.Variable]:
    odds = [pivot_log_odds(file) for file in files.values()]
    corrected = np.stack([o.corrected for o in odds])
    intervals = {
        "pivot_log_odds": _mean(corrected, resampling),
        "pivot_log_odds_raw": _mean(np.stack([o.raw for o in odds]), resampling),
        "pivot_log_odds_first_token": _mean(np.stack([o.first_token for o in odds]), resampling),
    }
    texts = {
        "pivot_log_odds": "log-odds of the gold answer in the pivot, less mismatched answers",
        "pivot_log_odds_raw": "log-odds of the gold answer in the pivot, uncorrected",
        "pivot_log_odds_first_token": "log-odds of the first token, less mismatched answers",
    }
    dims, level = ("language", "layer"), resampling.confidence
    found: dict[str, xr.Variable] = {}
    for name, interval in intervals.items():
        unit = "nat" if name.endswith("first_token") else "nat per token"
        found |= interval_variables(name, dims, interval, texts[name], unit, level)
    share = _logistic(intervals["pivot_log_odds"])
    text = "logistic of the pivot's log-odds (an illustration)"
    found |= interval_variables("pivot_share", dims, share, text, confidence=level)
    kept = np.isfinite(corrected).all(axis=1).sum(axis=-1)
    found["pivot_log_odds_items"] = variable(("language",), kept, "items behind the log-odds")
    return found


def _logistic(interval: Interval) -> Interval:
    estimate, low, high = (
        1 / (1 + np.exp(-values)) for values in (interval.estimate, interval.low, interval.high)
    )
    return replace(interval, estimate=estimate, low=low, high=high)


def _settles_at(predicted: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Index of the settling layer, (language, latent, item); -1 where there is no such latent."""
    return np.where(present[..., None], settling_index(np.moveaxis(predicted, 2, -1)), -1)


def _settling(
    predicted: np.ndarray, present: np.ndarray, first: xr.Dataset, resampling: Resampling
) -> dict[str, xr.Variable]:
    """Settling layers: per item, and means in layers and in relative depth."""
    index = _settles_at(predicted, present)
    dims = ("language", "latent")
    found: dict[str, xr.Variable] = {}
    for name, positions, text in (
        ("settling_layer", first["layer"].values, "first layer from which on the answer stands"),
        (
            "settling_depth",
            first["relative_depth"].values,
            "relative depth from which on the answer stands",
        ),
    ):
        at = np.where(index >= 0, np.asarray(positions, dtype=float)[index], np.nan)
        interval = _mean(at, resampling)
        found |= interval_variables(name, dims, interval, text, confidence=resampling.confidence)
        expected = shuffled_settling(positions, first["n_choices"].values).mean()
        shuffled = np.where(present, expected, np.nan)
        note = f"{text}, choices shuffled at every layer"
        found[f"{name}_shuffled"] = variable(dims, shuffled, note)
        if name == "settling_layer":
            found["settles_at"] = variable((*dims, "item"), at, text)
    return found


def _settling_by_score(files: Mapping[str, xr.Dataset]) -> dict[str, xr.Variable]:
    layers = next(iter(files.values()))["layer"].values.astype(float)
    means = []
    for score in LENS_SCORES:
        predicted, present = _predicted(np.stack([lens_scores(f, score) for f in files.values()]))
        mean = layers[_settles_at(predicted, present)].mean(axis=-1)
        means.append(np.where(present, mean, np.nan))
    text = "first layer from which on the answer stands, by score"
    dims = ("score", "language", "latent")
    return {"settling_layer_by_score": variable(dims, np.stack(means), text)}
