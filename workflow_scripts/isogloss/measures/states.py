"""States before they are compared: standardised, without their length, or degenerate."""

import numpy as np

CONSTANT = 1e-6  # spread over magnitude below which a dimension only holds rounding
FEW = 0.05  # items that are a few, of all


def mean_and_spread(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over items of states (..., item, feature): (..., 1, feature).

    In float64; the deviation is NaN where a dimension is constant, up to rounding.
    """
    x = states.astype(np.float64)
    mean, spread = x.mean(axis=-2, keepdims=True), x.std(axis=-2, keepdims=True)
    varies = spread > CONSTANT * np.sqrt((x**2).mean(axis=-2, keepdims=True))
    return mean, np.where(varies, spread, np.nan)


def share_of_few(norms: np.ndarray) -> float:
    """Share of the variance of states over items that a twentieth of the items has.

    About a tenth where states are normal in many dimensions. Near 1 where a few items have massive
    activations behind their first token too: these items alone then decide what weighs dimensions
    by their variance, which is centred cosines, CKA and mean differences.

    Args:
        norms: (item,) of the centred states.

    Source: Sun et al. 2024, Massive Activations in Large Language Models.

    >>> share_of_few(np.append(np.ones(19), 9.0))
    0.81
    """
    energy = np.sort(norms**2)[::-1]
    few, total = max(1, round(FEW * len(norms))), energy.sum()
    return float(energy[:few].sum() / total) if total > 0 else np.nan


def shared_dimensions(spread: np.ndarray) -> np.ndarray:
    """(feature,) bool: dimensions that vary in every language that varies at all.

    Args: spread (language, ..., feature) from `mean_and_spread`.
    """
    varies = np.isfinite(spread).reshape(len(spread), -1)
    return np.asarray((varies | ~varies.any(axis=1, keepdims=True)).all(axis=0))


def standardised(states: np.ndarray) -> np.ndarray:
    """Every dimension with mean 0 and variance 1 over the items of each language.

    Args:
        states: (language, item, feature).

    Returns:
        (language, item, feature), without the dimensions that are constant, up to rounding, in
        any language that varies at all; all NaN for a language in which none varies.
    """
    mean, spread = mean_and_spread(states)
    return ((states - mean) / spread)[..., shared_dimensions(spread)].astype(np.float32)


def without_length(states: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
    """States without what follows the logarithm of the number of tokens, by language.

    Args:
        states: (language, item, feature).
        n_tokens: (language, item), positive.

    Returns:
        (language, item, feature) residuals of a linear regression with intercept; centred states
        where the number of tokens is constant.
    """
    length = np.log(n_tokens.astype(np.float64))
    length = length - length.mean(axis=1, keepdims=True)
    energy = (length**2).sum(axis=1, keepdims=True)
    unit = np.divide(length, np.sqrt(energy), out=np.zeros_like(length), where=energy > 1e-12)
    x = states - states.mean(axis=1, keepdims=True)
    return x - unit[..., None] * (unit[:, None] @ x)


def degenerate_reason(states: np.ndarray) -> str:
    """Why states (item, feature) can have no similarity, "" where they can.

    A last token that all prompts share has one embedding: such states are equal whatever the
    question. Few distinct states group items by their last token, not by their meaning; the
    bound (half of the items) is our choice.

    >>> degenerate_reason(np.ones((5, 3)))
    'constant over items'
    """
    if not np.isfinite(states).all():
        return "not finite"
    x = states.astype(np.float64)
    spread = x.std(axis=0)
    varies = spread > CONSTANT * np.sqrt((x**2).mean(axis=0))
    if not varies.any():
        return "constant over items"
    # In units of the spread, so that states equal up to rounding count as one.
    n_distinct = len(np.unique((x[:, varies] / spread[varies]).round(3), axis=0))
    if 2 * n_distinct < len(states):
        return f"{n_distinct} distinct states for {len(states)} items"
    return ""
