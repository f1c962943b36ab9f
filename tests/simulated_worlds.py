"""Simulated worlds whose truth is known: what tests and the coverage table draw their data from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from isogloss.questions.prompts import mismatched

CHOICES = ("language", "item", "choice")
LENS_LATENTS = ["prompt", "pivot", "control", "prompt_mismatched", "pivot_mismatched"]
# How many clusters of each size the shipped questions have.
EVERYDAY_SIZES = {1: 87, 2: 8, 3: 4, 5: 1}


def clusters_of(n_items: int, how: str) -> np.ndarray:
    """(item,) cluster of each item: "none" (each its own), "everyday" or "threes".

    >>> clusters_of(5, "threes").tolist()
    [0, 0, 0, 1, 1]
    """
    if how == "none":
        return np.arange(n_items)
    if how == "threes":
        return np.arange(n_items) // 3
    pattern = np.repeat(list(EVERYDAY_SIZES), list(EVERYDAY_SIZES.values()))
    sizes = np.random.default_rng(0).permutation(pattern)
    return np.repeat(np.arange(len(sizes) * 4), np.tile(sizes, 4))[:n_items]


@dataclass(frozen=True)
class Answers:
    """How a simulated model answers parallel questions in several languages.

    A choice's score is `ability` where it is right, less the item's difficulty there, plus what
    all languages think of this choice, plus what each language alone thinks of it.

    Attributes:
        abilities: of the languages, the pivot first.
        shared: standard deviation of what languages have in common about a choice.
        noise: standard deviation of what each language alone thinks of a choice; one for all
            languages, or one per language.
        difficulty: standard deviation of items' difficulty.
        by_cluster: share of the variance of difficulty and of what is shared that whole clusters
            have in common.
        n_choices: of an item.
    """

    abilities: Sequence[float] = (1.6, 1.2, 0.9, 0.6, 0.2)
    shared: float = 1.0
    noise: float | Sequence[float] = 1.0
    difficulty: float = 0.7
    by_cluster: float = 0.5
    n_choices: int = 4

    @staticmethod
    def of_languages(rng: np.random.Generator, n_languages: int) -> "Answers":
        """A world whose languages are drawn at random, how able and how peculiar each one is."""
        abilities = rng.normal(1.0, 0.5, n_languages)
        return Answers(tuple(abilities), noise=tuple(np.exp(rng.normal(0, 0.3, n_languages))))

    def scores(self, rng: np.random.Generator, clusters: np.ndarray) -> xr.Dataset:
        """Scores of the choices as `open_scores` gives them; the pivot is the first language."""
        n_items, codes = len(clusters), np.unique(clusters, return_inverse=True)[1]
        n_clusters = int(codes.max()) + 1

        def clustered(*shape: int) -> np.ndarray:
            whole = rng.normal(size=(n_clusters, *shape))[codes]
            apart = rng.normal(size=(n_items, *shape))
            return np.sqrt(self.by_cluster) * whole + np.sqrt(1 - self.by_cluster) * apart

        n_languages = len(self.abilities)
        answers = rng.integers(0, self.n_choices, n_items)
        values = self.shared * clustered(self.n_choices)
        noise = np.broadcast_to(np.asarray(self.noise, dtype=float), n_languages)[:, None, None]
        values = values + noise * rng.normal(size=(n_languages, n_items, self.n_choices))
        ease = np.asarray(self.abilities)[:, None] - self.difficulty * clustered()
        values[:, np.arange(n_items), answers] += ease
        return scores_dataset(values, answers, clusters=clusters)


@dataclass(frozen=True)
class Wordings:
    """A model that is asked every question in several wordings, and is not sure of its answers.

    A choice's score is `ability` where it is right, plus what is stable (what all languages think
    of it, and what its language alone does), plus what a wording does to it in every language, plus
    noise that is drawn anew for every wording and language: whatever a language thinks of a choice
    under one wording alone.

    Attributes:
        shared, language, wording: standard deviations of the stable parts and of the wording's.
        noise: standard deviation of the noise, per language.
        by_cluster: share of the variance of what is shared that whole clusters have in common.
        ability: of the right choice, in all languages.
    """

    shared: float = 1.0
    language: float = 0.5
    wording: float = 0.0
    noise: Sequence[float] = (0.5, 1.0, 2.0)
    by_cluster: float = 0.5
    ability: float = 1.0
    n_wordings: int = 3
    n_choices: int = 4

    def scores(self, rng: np.random.Generator, clusters: np.ndarray) -> list[xr.Dataset]:
        """Scores of the choices, a dataset per wording."""
        n_items, codes = len(clusters), np.unique(clusters, return_inverse=True)[1]
        size = (n_items, self.n_choices)
        whole = rng.normal(size=(int(codes.max()) + 1, self.n_choices))[codes]
        shared = np.sqrt(self.by_cluster) * whole
        shared = shared + np.sqrt(1 - self.by_cluster) * rng.normal(size=size)
        noise, n_languages = np.asarray(self.noise)[:, None, None], len(self.noise)
        answers = rng.integers(0, self.n_choices, n_items)
        stable = self.shared * shared + self.language * rng.normal(size=(n_languages, *size))
        stable[:, np.arange(n_items), answers] += self.ability
        return [
            scores_dataset(
                stable
                + self.wording * rng.normal(size=size)
                + noise * rng.normal(size=(n_languages, *size)),
                answers,
                clusters=clusters,
            )
            for _ in range(self.n_wordings)
        ]


def scores_dataset(
    values: np.ndarray,
    answers: np.ndarray,
    n_choices: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    identical: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    spelling: np.ndarray | None = None,
) -> xr.Dataset:
    """What `behaviour` reads, from token-mean scores; the pivot is the first language, l0.

    Choices are spelled differently in all languages unless `spelling` says otherwise, or
    `identical` which are spelled as in the pivot.
    """
    n_languages, n_items, width = values.shape
    n_choices = np.full(n_items, width) if n_choices is None else n_choices
    lengths = np.ones(values.shape) if lengths is None else lengths
    values = np.where(np.arange(width) < n_choices[:, None], values, np.nan)
    identical = np.zeros(values.shape, bool) if identical is None else identical
    if spelling is None:
        spelling = np.arange(values.size).reshape(values.shape)
        spelling = np.where(identical, spelling[0], spelling)
    return xr.Dataset(
        {
            "sum": (CHOICES, values * lengths),
            "n_tokens": (CHOICES, lengths),
            "n_characters": (CHOICES, 2 * lengths),
            "n_bytes": (CHOICES, 3 * lengths),
            "answer": ("item", answers),
            "n_choices": ("item", n_choices),
            "cluster": ("item", np.arange(n_items) if clusters is None else clusters),
            "identical_to_pivot": (CHOICES, identical),
            "spelling": (CHOICES, spelling),
        },
        {
            "language": [f"l{i}" for i in range(n_languages)],
            "item": [f"i{i}" for i in range(n_items)],
        },
        {"pivot": "l0"},
    )


@dataclass(frozen=True)
class Lens:
    """Lens files in which phrases differ much and layers lean towards the pivot a little.

    The log-odds of an item's gold answer are its phrase's (the same after every prompt), the
    prompt's (the same for every phrase), `lean` where the phrase answers the prompt, and noise.
    From layer to layer the best choice stays with probability `stays`, and is else drawn anew.

    Attributes:
        phrase, prompt, noise: standard deviations [nat per token].
        lean: what the log-odds less those after other prompts must come out as.
        accuracy: that the gold answer wins: in the pivot, the prompt's and the control language.
        stays: share of items whose best choice is that of the layer before.
        n_layers, n_choices: of the model, of an item.
    """

    phrase: float = 3.0
    prompt: float = 0.3
    noise: float = 0.5
    lean: float = 0.4
    accuracy: tuple[float, float, float] = (0.6, 0.45, 0.35)
    stays: float = 0.7
    n_layers: int = 3
    n_choices: int = 4

    def file(self, rng: np.random.Generator, language: str, clusters: np.ndarray) -> xr.Dataset:
        """A lens file of one prompt language; the pivot is l0, the gold answer choice 0."""
        n, partner = len(clusters), mismatched(clusters)
        phrase, prompt = self.phrase * rng.normal(size=n), self.prompt * rng.normal(size=n)
        values = rng.normal(-8, 1, (self.n_layers, n, 5, self.n_choices))
        codes = np.unique(clusters, return_inverse=True)[1]
        difficulty = rng.random(n)[codes]  # a cluster's items are hard together, in all latents
        for latent, accuracy in zip((1, 0, 2), self.accuracy, strict=True):
            for layer, best in enumerate(self._best(rng, difficulty, accuracy)):
                values[layer, np.arange(n), latent, best] += 30
        for layer in range(self.n_layers):
            values[layer, :, 1, 0] = values[layer, :, 0, 0] + phrase + prompt + self.lean
            values[layer, :, 1, 0] += self.noise * rng.normal(size=n)
            after_others = phrase[partner] + prompt + self.noise * rng.normal(size=n)
            values[layer, :, 3, 0], values[layer, :, 4, 0] = -8.0, -8.0 + after_others
        return lens_file(language, values, cluster=clusters, pivot="l0")

    def _best(
        self, rng: np.random.Generator, difficulty: np.ndarray, accuracy: float
    ) -> np.ndarray:
        """(layer, item) index of the best choice."""
        shape = (self.n_layers, len(difficulty))
        hard = np.where(rng.random(shape) < 0.5, difficulty, rng.random(shape))
        best = np.where(hard < accuracy, 0, rng.integers(1, self.n_choices, shape))
        for layer in range(1, self.n_layers):
            best[layer] = np.where(rng.random(shape[1]) < self.stays, best[layer - 1], best[layer])
        return best


def lens_file(
    language: str,
    log_probability: np.ndarray,
    *,
    n_tokens: np.ndarray | None = None,
    answer: np.ndarray | None = None,
    identical: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    pivot: str = "en",
) -> xr.Dataset:
    """A lens file from log-probabilities (layer, item, latent, choice)."""
    n_layers, n_items, _, n_choices = log_probability.shape
    values = np.array(log_probability, dtype=float)
    if language == pivot:
        values[:, :, [1, 4]] = np.nan
    counts = np.ones((n_items, 5, n_choices)) if n_tokens is None else n_tokens
    same = np.zeros((n_items, n_choices), bool) if identical is None else identical
    return xr.Dataset(
        {
            "log_probability": (("layer", "item", "latent", "choice"), values),
            "first_token": (("layer", "item", "latent", "choice"), values / 2),
            "n_tokens": (("item", "latent", "choice"), counts),
            "answer": ("item", np.zeros(n_items, int) if answer is None else answer),
            "n_choices": ("item", np.full(n_items, n_choices)),
            "cluster": ("item", np.arange(n_items) if cluster is None else cluster),
            "identical_to_pivot": (("item", "choice"), same),
        },
        coords={
            "layer": np.arange(n_layers) * 3,
            "relative_depth": ("layer", np.linspace(0, 1, n_layers)),
            "item": [f"i{i}" for i in range(n_items)],
            "latent": LENS_LATENTS,
        },
        attrs={"language": language, "pivot": pivot, "control": "es"},
    )


@dataclass(frozen=True)
class Flips:
    """Right answers that steering changes, at several settings whose true effects are known.

    Attributes:
        rate: share of items that a setting flips, either way.
        effects: true change of accuracy of each setting.
        alike: share of the flips' variance that the settings have in common.
        by_cluster: share that the items of a cluster have in common.
    """

    rate: float
    effects: tuple[float, ...] = (0.0,)
    alike: float = 0.5
    by_cluster: float = 0.3

    def draw(self, rng: np.random.Generator, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Changes of right answers (-1, 0, 1) and of margins: (item, setting) twice."""
        codes = np.unique(clusters, return_inverse=True)[1]

        def clustered(n_settings: int) -> np.ndarray:
            whole = rng.normal(size=(int(codes.max()) + 1, n_settings))[codes]
            apart = rng.normal(size=(len(codes), n_settings))
            return np.sqrt(self.by_cluster) * whole + np.sqrt(1 - self.by_cluster) * apart

        effects = np.asarray(self.effects)
        common, single = clustered(1), clustered(len(effects))
        height = ndtr(np.sqrt(self.alike) * common + np.sqrt(1 - self.alike) * single)
        gain, loss = (self.rate + effects) / 2, (self.rate - effects) / 2
        change = np.where(height > 1 - gain, 1.0, np.where(height < loss, -1.0, 0.0))
        return change, height - 0.5 + 0.3 * rng.normal(size=height.shape)


def steering_effects() -> xr.Dataset:
    """Effects of a study of two languages, with values that are easy to find again."""
    rng = np.random.default_rng(0)
    sizes = {"language": 2, "method": 2, "relative_depth": 2, "alpha": 2, "fold": 3}
    sizes |= {"control": 2, "draw": 3}
    by_method = ["effect", "consistency_change"]
    shapes: dict[str, tuple[str, ...]] = {
        "surface": ("language", "method", "relative_depth", "alpha")
    }
    shapes |= {name: shapes["surface"] for name in ("surface_consistency", "surface_norm_ratio")}
    for name, dims in (
        *((name, ("method",)) for name in by_method),
        ("control_effect", ("control",)),
        ("effect_over_control", ("control",)),
        ("pivot_harm", ()),
    ):
        for end in ("", "_low", "_high"):
            shapes[name + end] = ("language", *dims)
            shapes[f"pooled_{name}{end}"] = dims
    for name in ("p_holm", "minimum_detectable_effect"):
        shapes |= {name: ("language", "method"), f"pooled_{name}": ("method",)}
        shapes |= {f"primary_{name}": ("language",)}
    for name in ("effect_over_control_p", "effect_over_control_p_holm"):
        shapes |= {name: ("language", "control"), f"pooled_{name}": ("control",)}
    shapes |= {"pooled_primary_p": (), "pooled_primary_minimum_detectable_effect": ()}
    shapes["random_draws"] = ("language", "draw")
    shapes["control_cosine"] = ("language", "control")
    data: dict[str, Any] = {
        n: (d, rng.normal(0, 0.05, [sizes[k] for k in d])) for n, d in shapes.items()
    }
    for name in [n for n in data if n.endswith("_low")]:
        middle = data[name.removesuffix("_low")][1]
        data[name] = (data[name][0], middle - 0.04)
        data[name.replace("_low", "_high")] = (data[name][0], middle + 0.04)
    data["p_holm"] = (("language", "method"), np.array([[0.5, 0.5], [0.07, 0.5]]))
    data["flipped_right"] = (("language", "method"), np.array([[5, 1], [3, 1]]))
    data["flipped_wrong"] = (("language", "method"), np.array([[2, 1], [9, 1]]))
    data["zero_flipped_right"] = ("language", np.array([1, 0]))
    data["zero_flipped_wrong"] = ("language", np.array([1, 0]))
    data["primary_p_holm"] = (("language",), np.array([0.5, 0.001]))
    data["pooled_primary_p"] = ((), 0.0123)
    data["selected_layer"] = (("language", "method", "fold"), np.full((2, 2, 3), 9.0))
    data["selected_depth"] = (("language", "method", "fold"), np.full((2, 2, 3), 9 / 18))
    data["selected_alpha"] = (("language", "method", "fold"), np.full((2, 2, 3), 0.5))
    coords = {
        "language": ["de", "sw"],
        "method": ["mean_difference", "shared_projection"],
        "relative_depth": [4 / 18, 9 / 18],
        "alpha": [0.5, 1.0],
        "control": ["zero", "random"],
    }
    return xr.Dataset(data, coords=coords, attrs={"default_method": "mean_difference"})
