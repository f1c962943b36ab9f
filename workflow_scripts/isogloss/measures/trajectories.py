"""Lens trajectories: what a model's layers say, and in which language.

From the latent log-probabilities of choices, layer by layer: how often the layer's best choice is
right, whether languages rank the choices alike, whether the gold answer is likelier in the pivot
than in the prompt's language, and from which layer on the answer stands.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import predictions, rank_correlation, ranks
from isogloss.measures.statistics import (
    Interval,
    Jackknife,
    cluster_codes,
    divide,
    known_width,
    mean_present,
    stacked,
    two_way_jackknife,
    within,
)
from isogloss.measures.variables import crossed_bounds, interval_variables, variable
from isogloss.questions.prompts import mismatched

# Languages in which the choices are read; the mismatched rows only serve the log-odds.
CHOICE_LATENTS = ("prompt", "pivot", "control")
# Scores that the lens can give: lengths other than tokens are not kept for it.
LENS_SCORES = ("token", "sum")
# Paired differences of latent accuracy: name, and the two latent languages.
CONTRASTS = {"pivot_prompt": ("pivot", "prompt"), "pivot_control": ("pivot", "control")}


# Kernels


def settling_index(predicted: np.ndarray) -> np.ndarray:
    """First layer from which on the prediction no longer changes: (..., layer) to (...) int.

    >>> settling_index(np.array([[2, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]])).tolist()
    [2, 0, 4]
    """
    stands = predicted == predicted[..., -1:]
    return predicted.shape[-1] - np.cumprod(stands[..., ::-1], axis=-1).sum(axis=-1)


def settling_of_others(
    predicted: np.ndarray, positions: np.ndarray, n_choices: np.ndarray, clusters: np.ndarray
) -> np.ndarray:
    """Where an item's trajectory would settle on the final answers of other items.

    The baseline of the settling layer: what layers share because they prefer the same choice
    whatever the question, layer after layer. Exact, without draws: the mean over all items of
    other clusters with as many choices. The last layer counts as settled.

    Args:
        predicted: (..., item, layer) index of the predicted choice.
        positions: (layer,) number or relative depth of each layer, ascending.
        n_choices, clusters: (item,).

    Returns:
        (..., item); NaN where there is no other such item.

    Source: our choice.

    >>> settles = np.array([[0, 1, 1], [0, 0, 0]])  # on 0 only at the end, on 1 from layer 1
    >>> settling_of_others(settles, np.arange(3.0), np.array([2, 2]), np.arange(2)).tolist()
    [2.0, 2.0]
    """
    codes, total = cluster_codes(clusters), np.zeros(predicted.shape[:-1])
    others = (n_choices[:, None] == n_choices) & (codes[:, None] != codes)
    for choice in range(int(n_choices.max())):
        stands = np.cumprod((predicted == choice)[..., -2::-1], axis=-1).sum(axis=-1)
        settles = positions[len(positions) - 1 - stands]
        total += settles * ((predicted[..., -1] == choice) @ others.T.astype(float))
    return divide(total, others.sum(axis=1))


class LogOdds(NamedTuple):
    """Log-odds of the pivot against the prompt's language, (layer, item), NaN where left out.

    Attributes:
        raw: log p(gold in the pivot) - log p(gold in the prompt's language) [nat per token].
        corrected: raw minus the same of this gold answer after the prompts of other items.
        first_token: as corrected, of the phrases' first tokens [nat].
    """

    raw: np.ndarray
    corrected: np.ndarray
    first_token: np.ndarray


def pivot_log_odds(lens: xr.Dataset) -> LogOdds:
    """How much likelier the gold answer is in the pivot, after one language's prompts.

    The same phrase after another item's prompt is subtracted, not another phrase after the same
    prompt: phrases differ much more than prompts do, and so cancel in every item.
    Items whose gold answer is spelled alike in both languages are left out, and of the corrected
    values those whose phrase no other prompt was followed by. In the pivot's own prompts there is
    nothing to compare: all NaN.

    Args:
        lens: a lens file: `log_probability`, `first_token` (layer, item, latent, choice) [nat],
            `n_tokens` (item, latent, choice), `identical_to_pivot` (item, choice), `answer`,
            `cluster`, and `mismatched_item` (item) where clusters alone do not say it.

    Source: the mismatched term is our choice: forced later tokens and byte fallback raise the
    likelihood of any phrase of a language, right or wrong.
    """
    answer, first_choice = lens["answer"].values, np.zeros(lens.sizes["item"], dtype=int)
    gold, gold_first = _odds(lens, ("pivot", "prompt"), answer)
    other, other_first = (
        _by_phrase(odds, _partners(lens))
        for odds in _odds(lens, ("pivot_mismatched", "prompt_mismatched"), first_choice)
    )
    alike = _of_phrase(lens, "identical_to_pivot", answer).astype(bool)
    left_out = alike | (lens.attrs["language"] == lens.attrs["pivot"])
    return LogOdds(
        np.where(left_out, np.nan, gold),
        np.where(left_out, np.nan, gold - other),
        np.where(left_out, np.nan, gold_first - other_first),
    )


def _partners(lens: xr.Dataset) -> np.ndarray:
    """(item,) the item whose gold answer followed each prompt, -1 for none: as the file says, or
    where it does not by the clusters."""
    if "mismatched_item" in lens:
        return np.asarray(lens["mismatched_item"].values)
    return mismatched(lens["cluster"].values)


def _by_phrase(odds: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Values by prompt as means by phrase: (layer, item) twice.

    Args: partner (item,) the item whose gold answer followed each prompt, -1 for none.
    Returns: NaN for items whose gold answer followed no other prompt.
    """
    n_items = odds.shape[-1]
    follows = (partner[:, None] == np.arange(n_items)) & np.isfinite(odds).all(axis=0)[:, None]
    return divide(np.nan_to_num(odds) @ follows, follows.sum(axis=0))


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


def lens_scores(
    lens: xr.Dataset, score: str = "token", latents: Sequence[str] = CHOICE_LATENTS
) -> np.ndarray:
    """Latent scores of the choices: (latent, layer, item, choice), latents as asked for.

    NaN where the item has no such choice, or the file no such latent language.

    Args:
        lens: a lens file.
        score: "token" [nat per token] or "sum" [nat].
    """
    read = lens.sel(latent=list(latents))
    sums = read["log_probability"].transpose("latent", "layer", "item", "choice").values
    values = np.asarray(sums, dtype=float)
    if score == "token":
        counts = read["n_tokens"].transpose("latent", "item", "choice").values
        values = divide(values, np.asarray(counts, dtype=float)[:, None])
    exists = np.arange(values.shape[-1]) < lens["n_choices"].values[:, None]
    return np.where(exists, values, np.nan)


def trajectories(
    lens: Mapping[str, xr.Dataset], score: str = "token", confidence: float = 0.95
) -> xr.Dataset:
    """Trajectories over layers of all languages, with intervals over clusters of items.

    Args:
        lens: lens files by language; the same items and layers in each, the pivot among them.
        score: what ranks the choices: "token" or "sum". Log-odds are per token with either.
        confidence: of the intervals.

    Returns:
        Dataset over language, latent, layer, contrast, item and score: `latent_accuracy`, its
        `latent_accuracy_contrast` between latent languages (and `mean_` over languages),
        `latent_accuracy_choices_only` (the lens at the embedding), `latent_consistency` (and
        `_distinct`), `pivot_log_odds` (and `_raw`, `_first_token`), `pivot_share`,
        `settling_layer`, `settling_depth` (and `_shuffled`), each mean with `_low`, `_high`;
        `settles_at` per item; `settling_layer_by_score`.

    Raises:
        InputError: unknown score, no file of the pivot, or files that differ in items or layers.
    """
    if score not in LENS_SCORES:
        raise InputError(f"score: the lens has no {score!r}: use one of {', '.join(LENS_SCORES)}")
    files = _checked(lens)
    first = next(iter(files.values()))
    jackknife = Jackknife.of(first["cluster"].values, confidence)
    values = np.stack([lens_scores(file, score) for file in files.values()])
    predicted, present = _predicted(values)
    variables = {
        **_accuracy(predicted, present, first, jackknife),
        **_contrasts(predicted, present, first, jackknife),
        **_consistency(values, files, jackknife),
        **_log_odds(files, jackknife),
        **_settling(predicted, present, first, jackknife),
        **_settling_by_score(files),
    }
    variables["chance"] = variable(
        (), float(np.mean(1 / first["n_choices"].values)), "accuracy of guessing"
    )
    coordinates = {
        "language": list(files),
        "latent": list(CHOICE_LATENTS),
        "score": list(LENS_SCORES),
        "contrast": list(CONTRASTS),
        "layer": first["layer"].values,
        "relative_depth": ("layer", first["relative_depth"].values),
        "item": first["item"].values,
    }
    settings = {"score": score, "confidence": confidence, "n_clusters": jackknife.n_clusters}
    dataset = xr.Dataset(variables, coordinates, settings | {"pivot": first.attrs["pivot"]})
    dataset["relative_depth"].attrs = {"long_name": "relative depth", "units": "1"}
    return dataset


def _checked(lens: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Lens files with ascending layers, all of the same items, layers and pivot."""
    if not lens:
        raise InputError("lens: no files: give one per language")
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
    kept = present.reshape(present.shape + (1,) * (interval.estimate.ndim - 2))
    return Interval(*(np.where(kept, values, np.nan) for values in interval))


def _mean(
    values: np.ndarray, jackknife: Jackknife, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Mean over items (last axis) with its interval; NaN entries are left out."""
    return jackknife.mean_interval(np.moveaxis(values, -1, 0), limits)


def _accuracy(
    predicted: np.ndarray, present: np.ndarray, first: xr.Dataset, jackknife: Jackknife
) -> dict[str, xr.Variable]:
    """Accuracy of each layer's best choice, and of the embedding's, which sees no question.

    At the embedding a state holds the prompt's last token and nothing before it: where prompts
    end alike, its lens ranks the choices by themselves.
    """
    correct = np.moveaxis(predicted == first["answer"].values, -1, 0).astype(float)
    interval = jackknife.share_interval(jackknife.means(correct), len(correct))
    interval = _where_present(interval, present)
    dims, level = ("language", "latent", "layer"), jackknife.confidence
    text = "accuracy of the layer's best choice"
    variables = interval_variables("latent_accuracy", dims, interval, text, confidence=level)
    embedding = int(first["layer"][0]) == 0
    nothing = np.full(present.shape, np.nan)
    alone = Interval(*(values[..., 0] if embedding else nothing for values in interval))
    name, text = "latent_accuracy_choices_only", "accuracy of the embedding's best choice"
    return variables | interval_variables(name, dims[:2], alone, text, confidence=level)


def _contrasts(
    predicted: np.ndarray, present: np.ndarray, first: xr.Dataset, jackknife: Jackknife
) -> dict[str, xr.Variable]:
    """Paired differences of latent accuracy, by language and in the mean over languages."""
    correct = (predicted == first["answer"].values).astype(float)
    correct[~present] = np.nan
    at = {latent: correct[:, index] for index, latent in enumerate(CHOICE_LATENTS)}
    change = np.stack([at[a] - at[b] for a, b in CONTRASTS.values()], axis=1)
    dims, level = ("language", "contrast", "layer"), jackknife.confidence
    name, text = "latent_accuracy_contrast", "difference of latent accuracies"
    limits = (-1.0, 1.0)
    interval = known_width(_mean(change, jackknife, limits))
    variables = interval_variables(name, dims, interval, text, confidence=level)
    # Languages that have both latents: the pivot's own prompts have no second language.
    pooled = [
        _over_languages(change[both, index], jackknife, limits)
        for index, pair in enumerate(CONTRASTS.values())
        for both in [present[:, [CHOICE_LATENTS.index(latent) for latent in pair]].all(axis=1)]
    ]
    name, text = f"mean_{name}", f"{text}, mean over languages"
    mean, crossed = (stacked(intervals) for intervals in zip(*pooled, strict=True))
    return (
        variables
        | interval_variables(name, dims[1:], mean, text, confidence=level)
        | crossed_bounds(name, dims[1:], crossed, text, level)
    )


def _over_languages(
    values: np.ndarray, jackknife: Jackknife, limits: tuple[float, float]
) -> tuple[Interval, Interval]:
    """Mean over languages (first axis) and items (last), with both kinds of intervals."""
    rows = jackknife.means(np.moveaxis(values, -1, 0))
    n, pooled = rows.shape[1], divide(rows.sum(axis=1), np.array(rows.shape[1]))
    without = divide(rows[0].sum(axis=0) - rows[0], np.array(n - 1))
    crossed = two_way_jackknife(pooled[0], pooled[1:], without, jackknife.confidence)
    intervals = jackknife.interval(pooled, limits), within(crossed, limits)
    return known_width(intervals[0]), known_width(intervals[1])


def _consistency(
    values: np.ndarray, files: Mapping[str, xr.Dataset], jackknife: Jackknife
) -> dict[str, xr.Variable]:
    """Ranks of the choices in a language's prompt against those in the pivot's."""
    first = next(iter(files.values()))
    n_choices, pivot = first["n_choices"].values, list(files).index(first.attrs["pivot"])
    ranked = ranks(values[:, CHOICE_LATENTS.index("prompt")], n_choices)
    rho = rank_correlation(ranked, ranked[pivot])
    rho[pivot] = np.nan
    exists = np.arange(values.shape[-1]) < n_choices[:, None]
    identical = np.stack(
        [f["identical_to_pivot"].transpose("item", "choice").values for f in files.values()]
    )
    distinct = ~np.any(identical.astype(bool) & exists, axis=-1)[:, None, :]
    text = "rank correlation of the choices with the pivot's prompt at this layer"
    variables: dict[str, xr.Variable] = {}
    for name, kept, note in (
        ("latent_consistency", rho, text),
        (
            "latent_consistency_distinct",
            np.where(distinct, rho, np.nan),
            f"{text}, items without a choice spelled alike",
        ),
    ):
        interval = known_width(_mean(kept, jackknife, (-1.0, 1.0)))
        variables |= interval_variables(
            name, ("language", "layer"), interval, note, confidence=jackknife.confidence
        )
    return variables


def _log_odds(files: Mapping[str, xr.Dataset], jackknife: Jackknife) -> dict[str, xr.Variable]:
    odds = [pivot_log_odds(file) for file in files.values()]
    raw, corrected, first_token = (np.stack(values) for values in zip(*odds, strict=True))
    dims, level = ("language", "layer"), jackknife.confidence
    gold, less = "log-odds of the gold answer in the pivot", "less after other prompts"
    variables: dict[str, xr.Variable] = {}
    for name, values, unit, text in (
        ("pivot_log_odds", corrected, "nat per token", f"{gold}, {less}"),
        ("pivot_log_odds_raw", raw, "nat per token", f"{gold}, uncorrected"),
        ("pivot_log_odds_first_token", first_token, "nat", f"log-odds of the first token, {less}"),
    ):
        interval = _mean(values, jackknife)
        variables |= interval_variables(name, dims, interval, text, unit, level)
    share = Interval(*(1 / (1 + np.exp(-ends)) for ends in _mean(corrected, jackknife)))
    text = "logistic of the pivot's log-odds (an illustration)"
    variables |= interval_variables("pivot_share", dims, share, text, confidence=level)
    kept = np.isfinite(corrected).all(axis=1).sum(axis=-1)
    variables["pivot_log_odds_items"] = variable(("language",), kept, "items behind the log-odds")
    reasons = np.array([_no_log_odds(f, n) for f, n in zip(files.values(), kept, strict=True)])
    text = "why there are no log-odds"
    variables["pivot_log_odds_reason"] = variable(("language",), reasons, text)
    return variables


def _no_log_odds(lens: xr.Dataset, n_items: int) -> str:
    """Why no item of a lens file has log-odds; empty if there is one."""
    if n_items:
        return ""
    if lens.attrs["language"] == lens.attrs["pivot"]:
        return "these are the pivot's own prompts"
    if _of_phrase(lens, "identical_to_pivot", lens["answer"].values).all():
        return "all right choices are spelled as in the pivot"
    return "no item of another cluster has another right choice"


def _settles_at(predicted: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Index of the settling layer, (language, latent, item); -1 where there is no such latent."""
    return np.where(present[..., None], settling_index(np.moveaxis(predicted, 2, -1)), -1)


def _settling(
    predicted: np.ndarray, present: np.ndarray, first: xr.Dataset, jackknife: Jackknife
) -> dict[str, xr.Variable]:
    """Settling layers: per item, and means in layers and in relative depth."""
    index = _settles_at(predicted, present)
    dims = ("language", "latent")
    variables: dict[str, xr.Variable] = {}
    for name, positions, text in (
        ("settling_layer", first["layer"].values, "first layer from which on the answer stands"),
        (
            "settling_depth",
            first["relative_depth"].values,
            "relative depth from which on the answer stands",
        ),
    ):
        at = np.where(index >= 0, np.asarray(positions, dtype=float)[index], np.nan)
        level, limits = jackknife.confidence, (float(positions[0]), float(positions[-1]))
        variables |= interval_variables(
            name, dims, _mean(at, jackknife, limits), text, confidence=level
        )
        others = settling_of_others(
            np.moveaxis(predicted, 2, -1),
            np.asarray(positions, dtype=float),
            first["n_choices"].values,
            first["cluster"].values,
        )
        expected = mean_present(np.where(present[..., None], others, np.nan), axis=-1)
        note = f"{text}, on the final answers of other items"
        variables[f"{name}_shuffled"] = variable(dims, expected, note)
        if name == "settling_layer":
            variables["settles_at"] = variable((*dims, "item"), at, text)
    return variables


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


def shares_among_choices(
    lens: xr.Dataset, latents: Sequence[str], score: str = "token"
) -> np.ndarray:
    """Probability of each choice among the choices of its item.

    Args:
        lens: a lens file.
        latents: of its latent languages, those wanted.
        score: that ranks the choices, as of `trajectories`: "token" or "sum".

    Returns:
        (latent, layer, item, choice): the softmax of the log-probabilities, per token or of whole
        choices; NaN for choices that an item does not have.
    """
    values = lens_scores(lens, score, latents)
    known = np.where(np.isnan(values), -np.inf, values)
    return np.exp(values - np.logaddexp.reduce(known, axis=-1, keepdims=True))
