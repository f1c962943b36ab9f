"""Verdicts: each claim of the paper, put to the models of a study by a rule that stands beforehand.

The rule, the same for all claims:

- Every claim has one test with one interval; `CLAIMS` says which, and on which side of 0 it lies.
- The p values of all rows of the table are adjusted together (Holm).
- *Supported*: adjusted p at most 1 - confidence, the interval wholly on the claim's side of 0.
- *Contradicted*: the same, the interval wholly on the other side.
- *Undecided*: neither. The row says which effect would have been detected with 80% power at
  (1 - confidence) / tests, or what is missing for a test.

A row per model (all seeds of a size together), or per family where the claim is about size; all
rows are of one dataset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from isogloss.measures.slopes import MIN_SIZES, over_seeds, slope_of_estimates, without_flips
from isogloss.measures.statistics import detectable, fisher_z, holm, significant

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
MIN_LANGUAGES = 6
"""Of an association: over five languages, intervals of rank correlations cover .85 of .95."""
NO_VALUES = (float("nan"),) * 4
NO_CHANGES = (
    "no answer changed, all clusters changed by the same amount, or too few are right in the pivot"
)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and how it is put to models.

    Attributes:
        statement: what it says.
        effect: what is measured.
        test: behind the interval and p.
        sign: 1 where a positive effect supports it, -1 where a negative one does.
        is_correlation: whether the effect is a correlation; else it is a difference or a slope.
    """

    statement: str
    effect: str
    test: str
    sign: int = 1
    is_correlation: bool = False


SIGN_FLIPS = "sign flips of clusters, layer and strength chosen anew each time"
SIGN_FLIPS_ALONE = "sign flips of clusters, layer and strength chosen on other questions"
OVER_SEEDS = "Student's t over seeds, widened by the interval within a seed"
JACKKNIFE = "clusters left out of all sizes at once"
CLAIMS = {
    "consistency_similarity": Claim(
        "Languages are less consistent where their representations are less alike",
        "correlation of item share with consistency over pairs of languages, after the effects of "
        "each language",
        "permutation of languages (QAP)",
        is_correlation=True,
    ),
    "accuracy_similarity": Claim(
        "Accuracy is lower in languages whose representations are less like the others'",
        "rank correlation over languages of mean item share with the others and accuracy",
        "permutation of languages",
        is_correlation=True,
    ),
    "size_dissociation": Claim(
        "Larger models dissociate more",
        "change of dissociation with ten times the parameters",
        JACKKNIFE,
    ),
    "size_transfer": Claim(
        "Larger models transfer more",
        "change of transfer above that of accuracy alone, with ten times the parameters",
        JACKKNIFE,
    ),
    "steering_accuracy": Claim(
        "Steering raises accuracy", "change of accuracy, mean over languages", SIGN_FLIPS
    ),
    "steering_consistency": Claim(
        "Steering raises consistency with the pivot",
        "change of consistency with the pivot, mean over languages",
        SIGN_FLIPS,
    ),
    "steering_transfer": Claim(
        "Steering raises transfer from the pivot",
        "change of transfer from the pivot, mean over languages",
        SIGN_FLIPS,
    ),
    "steering_size": Claim(
        "Steering raises accuracy more in smaller models",
        "change of what steering does to accuracy, with ten times the parameters",
        "standard errors of each size's steering, sizes as independent",
        sign=-1,
    ),
}
# The pooled variables of steering effects behind a claim, and those of its test.
STEERING = {
    "steering_accuracy": ("pooled_effect", "pooled_p"),
    "steering_consistency": ("pooled_consistency_change", "pooled_consistency_change_p"),
    "steering_transfer": ("pooled_transfer_to_change", "pooled_transfer_to_change_p"),
}
SLOPES = {"size_dissociation": "dissociation", "size_transfer": "lift"}
LONG_NAMES = {
    "claim": "claim of the paper",
    "subject": "model, its seeds, or family of models, that it is put to",
    "statement": "what the claim says",
    "effect_name": "what the effect is",
    "test": "test behind interval and p",
    "verdict": "supported, contradicted or undecided",
    "effect": "effect: a correlation, a difference or a difference per tenfold parameters",
    "effect_low": "effect, lower bound",
    "effect_high": "effect, upper bound",
    "p": "two-sided p",
    "p_holm": "p, Holm over all rows",
    "minimum_detectable_effect": "effect detected with 80% power at the level of one of all rows",
    "missing": "what is missing for a test; empty where there is one",
    "n_models": "models",
    "n_languages": "languages",
    "n_near_chance": "languages of these near chance, in any of the models",
    "n_mostly_alike": "languages of these that spell most choices as another one does",
    "n_items": "items",
    "n_clusters": "clusters of items",
}


# Kernels


def decide(
    low: np.ndarray, high: np.ndarray, p: np.ndarray, sign: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The verdict of every row of a table, and its adjusted p.

    Args:
        low, high: (row,) bounds of each row's interval; NaN where there is none.
        p: (row,) two-sided, of the same inference; NaN where there is no test.
        sign: (row,) side of 0 that supports the claim, 1 or -1.
        confidence: of the intervals; tests are at 1 - confidence.

    Returns:
        Verdicts (row,), and p adjusted by Holm over all rows that have one.

    >>> low, high, p = np.array([[0.1, -0.3, -0.1], [0.3, -0.1, 0.3], [0.001, 0.01, 0.4]])
    >>> decide(low, high, p, np.ones(3))[0].tolist()
    ['supported', 'contradicted', 'undecided']
    """
    adjusted = holm(np.where(np.isfinite(low) & np.isfinite(high), p, np.nan))
    sure = significant(adjusted, confidence)
    above, below = sure & (low > 0), sure & (high < 0)
    for_it = np.where(sign > 0, above, below)
    against = np.where(sign > 0, below, above)
    verdict = np.where(for_it, SUPPORTED, np.where(against, CONTRADICTED, UNDECIDED))
    return verdict, adjusted


def detectable_correlation(
    low: np.ndarray, high: np.ndarray, confidence: float, alpha: float
) -> np.ndarray:
    """`statistics.detectable` of correlations, whose intervals are symmetric in Fisher's z."""
    return np.asarray(np.tanh(detectable(fisher_z(low), fisher_z(high), confidence, alpha)))


# Of a study


@dataclass(frozen=True)
class Sample:
    """What a row rests on: numbers of models, languages and items."""

    n_models: int
    n_languages: int
    n_near_chance: int
    n_mostly_alike: int
    n_items: int
    n_clusters: int


@dataclass(frozen=True)
class Finding:
    """One claim put to one model or family.

    Attributes:
        missing: why there is no test; empty where there is one.
        values: effect, its bounds and p; not read where something is missing.
        test: behind them; empty where it is the claim's.
    """

    claim: str
    subject: str
    sample: Sample
    missing: str
    values: Sequence[float] = NO_VALUES
    test: str = ""


def verdicts(scale: xr.Dataset, steering: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Every claim of the paper put to every model or family of a study.

    Args:
        scale: of `scale.scale`, on the dataset that the verdicts are of.
        steering: of `steering.effects.steering_effects` by model; empty where nothing is steered.

    Returns:
        The variables of LONG_NAMES over `row`, in the order of CLAIMS. Steering is that of the
        study's first method, pooled over its languages.
    """
    findings = [
        *_similarity_findings(scale),
        *_slope_findings(scale),
        *_steering_findings(scale, steering),
        *_steering_size_findings(scale, steering),
    ]
    confidence = float(scale.attrs["confidence"])
    table = _table(findings, confidence)
    methods = {str(effects.attrs["default_method"]) for effects in steering.values()}
    about = {"confidence": confidence, "pivot": scale.attrs["pivot"]}
    return table.assign_attrs(about, default_method=", ".join(sorted(methods)))


def _table(findings: Sequence[Finding], confidence: float) -> xr.Dataset:
    """Findings with their verdicts, as one family of tests."""
    claims = [CLAIMS[finding.claim] for finding in findings]
    columns = {
        name: np.array([getattr(finding, name) for finding in findings])
        for name in ("claim", "subject", "missing")
    }
    values = np.array([NO_VALUES if finding.missing else finding.values for finding in findings])
    columns |= dict(zip(("effect", "effect_low", "effect_high", "p"), values.T, strict=True))
    low, high = columns["effect_low"], columns["effect_high"]
    sign = np.array([claim.sign for claim in claims])
    verdict, adjusted = decide(low, high, columns["p"], sign, confidence)
    n_tests = int(np.isfinite(adjusted).sum())
    alpha = (1 - confidence) / max(n_tests, 1)
    correlated = np.array([claim.is_correlation for claim in claims])
    least = np.where(
        correlated,
        detectable_correlation(np.where(correlated, low, np.nan), high, confidence, alpha),
        detectable(low, high, confidence, alpha),
    )
    samples = [asdict(finding.sample) for finding in findings]
    columns |= {name: np.array([sample[name] for sample in samples]) for name in samples[0]}
    columns |= {
        "statement": np.array([claim.statement for claim in claims]),
        "effect_name": np.array([claim.effect for claim in claims]),
        "test": np.array([f.test or c.test for f, c in zip(findings, claims, strict=True)]),
        "verdict": verdict,
        "p_holm": adjusted,
        "minimum_detectable_effect": least,
    }
    table = xr.Dataset(
        {
            name: ("row", columns[name], {"long_name": text, "units": "1"})
            for name, text in LONG_NAMES.items()
        }
    )
    table["effect"].attrs["interval_over"] = "see `test`"
    return table.assign_attrs(n_tests=n_tests)


def _sample(scale: xr.Dataset, models: Sequence[str], effects: xr.Dataset | None = None) -> Sample:
    """Models, their languages (those steered, where effects are given) and items."""
    languages = (scale if effects is None else effects)["language"].values
    about = (scale if effects is None else effects).attrs
    marks = scale[["near_chance", "mostly_alike"]].sel(model=list(models), language=languages)
    marked = marks.astype(bool).any("model").sum()
    return Sample(
        len(models),
        len(languages),
        int(marked["near_chance"]),
        int(marked["mostly_alike"]),
        int(about["n_items"]),
        int(about["n_clusters"]),
    )


def _similarity_findings(scale: xr.Dataset) -> list[Finding]:
    """Consistency and accuracy against item share, by model."""
    pair = {"similarity": "item_share_middle", "behaviour": "consistency"}
    sources = {
        "consistency_similarity": ("association_adjusted", scale.sel(pair)),
        "accuracy_similarity": ("accuracy_association", scale),
    }
    findings = []
    for claim, (name, table) in sources.items():
        for subject, models in subjects(scale).items():
            by_model = [[float(table[f"{name}{e}"].sel(model=m)) for e in ENDS] for m in models]
            values = _over_seeds(by_model, float(scale.attrs["confidence"]), is_correlation=True)
            compared = _compared(scale, models)
            missing = _missing_association(compared.sizes["language"], values)
            test = OVER_SEEDS if len(models) > 1 else ""
            sample = _sample(compared, models)
            findings.append(Finding(claim, subject, sample, missing, values, test))
    return findings


def _compared(scale: xr.Dataset, models: Sequence[str]) -> xr.Dataset:
    """The scale of the languages that have a similarity in all of some models; with the pivot."""
    apart = scale["dissociation_by_language"].sel(model=list(models))
    known = apart.notnull().all("model") | (scale["language"] == scale.attrs["pivot"])
    return scale.isel(language=np.flatnonzero(known))


ENDS = ("", "_low", "_high", "_p")


def subjects(scale: xr.Dataset) -> dict[str, list[str]]:
    """What claims about single models are put to: each model, all seeds of a size together."""
    of_subject: dict[str, list[str]] = {}
    for model in map(str, scale["model"].values):
        at = scale.sel(model=model)
        alike = (scale["family_of"] == at["family_of"]) & (scale["parameters"] == at["parameters"])
        members = [str(slug) for slug in scale["model"].values[alike.values]]
        if len(members) > 1 and np.isfinite(float(at["seed"])):
            of_subject.setdefault(f"{', '.join(members)}: {len(members)} seeds", members)
        else:
            of_subject[model] = [model]
    return of_subject


def _over_seeds(
    by_model: Sequence[Sequence[float]], confidence: float, is_correlation: bool = False
) -> Sequence[float]:
    """Effect, bounds and p of a model, or of several seeds of one with seeds as the top level."""
    if len(by_model) == 1:
        return by_model[0]
    values, low, high, _ = np.array(by_model).T
    if not is_correlation:
        return over_seeds(values, low, high, confidence)
    *bounds, p = over_seeds(fisher_z(values), fisher_z(low), fisher_z(high), confidence)
    return [*np.tanh(bounds).tolist(), p]


def _missing_association(n_languages: int, values: Sequence[float]) -> str:
    """Why there is no verdict on an association; empty where there is."""
    if n_languages < MIN_LANGUAGES:
        return f"{n_languages} languages: an association over languages needs {MIN_LANGUAGES}"
    if not np.isfinite(values[0]):
        return "similarity or behaviour does not vary over languages"
    if not np.isfinite(values).all():
        return "too few permutations for an interval: raise similarity.permutations"
    return ""


def _families(scale: xr.Dataset) -> dict[str, list[str]]:
    """The models of every family."""
    family_of, models = scale["family_of"].values, scale["model"].values
    return {
        str(family): [str(m) for m in models[family_of == family]]
        for family in scale["family"].values
    }


def _too_few_sizes(scale: xr.Dataset, family: str) -> str:
    """That a family has fewer sizes than a claim about size needs; empty where it has enough."""
    n = int(scale["n_sizes"].sel(family=family))
    plural = "size" if n == 1 else "sizes"
    return f"{n} {plural}: a claim about size needs {MIN_SIZES}" if n < MIN_SIZES else ""


def _with_value(scale: xr.Dataset, models: Sequence[str], measure: str) -> list[str]:
    """The models that a slope of a measure is of."""
    values = scale["value"].sel(model=list(models), measure=measure)
    return [str(model) for model in values.dropna("model")["model"].values]


def _slope_findings(scale: xr.Dataset) -> list[Finding]:
    """Dissociation and transfer against size, by family."""
    findings = []
    for claim, measure in SLOPES.items():
        for family, models in _families(scale).items():
            slope = scale.sel(family=family, measure=measure)
            values = [float(slope[f"slope{end}"]) for end in ENDS]
            missing = _too_few_sizes(scale, family)
            if not missing and not np.isfinite(values).all():
                missing = str(slope["reason"].item()) or "nothing varies over clusters"
            behind = models if missing else _with_value(scale, models, measure)
            findings.append(Finding(claim, family, _sample(scale, behind), missing, values))
    return findings


def _steering_findings(scale: xr.Dataset, steering: Mapping[str, xr.Dataset]) -> list[Finding]:
    """What steering changes, by model."""
    findings = []
    for claim in STEERING:
        for subject, models in subjects(scale).items():
            if not set(models) <= set(steering):
                missing = "nothing is steered on this dataset"
                findings.append(Finding(claim, subject, _sample(scale, models), missing))
                continue
            confidence = float(scale.attrs["confidence"])
            by_model = [_steered(steering[model], claim) for model in models]
            if claim == "steering_accuracy" and any(change for change, *_ in by_model):
                # Of several seeds those without a change count, as sizes do in a slope.
                for row, model in zip(by_model, models, strict=True):
                    row[:3] = _accuracy_change(steering[model], confidence)
            values = _over_seeds(by_model, confidence)
            tested = np.isfinite(values).all()
            missing = "" if tested else NO_CHANGES
            sample = _sample(scale, models, steering[models[0]])
            separate = steering[models[0]].attrs.get("separate_sets", 0)
            test = OVER_SEEDS if len(models) > 1 else SIGN_FLIPS_ALONE if separate else ""
            findings.append(Finding(claim, subject, sample, missing, values, test))
    return findings


def _steered(effects: xr.Dataset, claim: str) -> list[float]:
    """Pooled effect of the study's first method with its bounds and p."""
    name, p = STEERING[claim]
    effect = effects.sel({"method": effects.attrs["default_method"]})
    return [float(effect[key]) for key in (name, f"{name}_low", f"{name}_high", p)]


def _accuracy_change(effects: xr.Dataset, confidence: float) -> tuple[float, float, float]:
    """Pooled change of accuracy with bounds, where no answer changed those of `without_flips`."""
    change, low, high, _ = _steered(effects, "steering_accuracy")
    if change == 0 and not np.isfinite(low + high):
        low, high = without_flips(int(effects.attrs["n_clusters"]), confidence)
    return change, low, high


def _steering_size_findings(scale: xr.Dataset, steering: Mapping[str, xr.Dataset]) -> list[Finding]:
    """What steering does to accuracy against size, by family."""
    claim, findings = "steering_size", []
    confidence = float(scale.attrs["confidence"])
    for family, models in _families(scale).items():
        steered = [model for model in models if model in steering]
        if not steered:
            missing = "nothing is steered on this dataset"
            findings.append(Finding(claim, family, _sample(scale, models), missing))
            continue
        changes = np.array([_accuracy_change(steering[m], confidence) for m in steered])
        parameters = scale["parameters"].sel(model=steered).values
        change, low, high = changes.T
        slope = slope_of_estimates(parameters, change, low, high, confidence)
        missing = _too_few_sizes(scale, family) or slope.reason
        values = [slope.value, slope.low, slope.high, slope.p]
        known = np.isfinite(low + high) | bool(missing)  # the slope is of these
        behind = [model for model, is_known in zip(steered, known, strict=True) if is_known]
        sample = _sample(scale, behind, steering[steered[0]])
        findings.append(Finding(claim, family, sample, missing, values))
    return findings
