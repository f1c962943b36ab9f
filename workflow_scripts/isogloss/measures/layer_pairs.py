"""Item share and CKA of every two languages of a layer, in as much memory as there is room for."""

from collections.abc import Iterator

import numpy as np

from isogloss.measures import cka
from isogloss.measures.item_share import left_out_sums, paired_sums
from isogloss.measures.layer_states import LayerStates


def layer_item_shares(layer: LayerStates, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Item share of every pair of languages, and with each cluster left out.

    Returns:
        (language, language) and (cluster, language, language); NaN where a language is degenerate.
    """
    n_features, shape = int(layer.dimensions.sum()), (layer.n_languages, layer.n_languages)
    pairs, left_out = np.zeros(shape), np.zeros((len(np.unique(clusters)), *shape))
    for features in layer.feature_parts(n_features):
        z = np.stack([layer.standardised(n, features) for n in layer.all_languages])
        pairs += paired_sums(z)
        left_out += left_out_sums(z, clusters)
    return pairs / (layer.n_items * n_features or np.nan), left_out / (n_features or np.nan)


def layer_ckas(layer: LayerStates, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Debiased CKA of every pair of languages, and with each cluster left out.

    Returns:
        (language, language) and (cluster, language, language); NaN where a language is degenerate.
    """
    shape = (layer.n_languages, layer.n_languages)
    hsic, left_out = np.empty(shape), np.empty((len(np.unique(clusters)), *shape))
    for rows, columns, first, second in centred_pairs(layer, clusters):
        fill(hsic, rows, columns, cka.hsic(first, second))
        fill(left_out, rows, columns, cka.left_out_hsics(first, second))
    return cka.cosine(hsic), cka.cosine(left_out)


def fill(whole: np.ndarray, rows: slice, columns: slice, of_both: np.ndarray) -> None:
    """Put what is symmetric in two blocks of languages (..., language, language) into a whole."""
    whole[..., rows, columns] = of_both
    whole[..., columns, rows] = np.swapaxes(of_both, -1, -2)


def centred_pairs(
    layer: LayerStates, clusters: np.ndarray, dtype: type = np.float64
) -> Iterator[tuple[slice, slice, cka.Centred, cka.Centred]]:
    """Every two blocks of languages once, with their Gram matrices."""
    n, n_clusters = layer.n_items, len(np.unique(clusters))
    entries = n**2 if n == n_clusters else n**2 + n * n_clusters + n_clusters**2
    blocks = layer.language_blocks(8 * entries)
    for number, rows in enumerate(blocks):
        first = _centred(layer, rows, clusters, dtype)
        for columns in blocks[number:]:
            second = first if columns == rows else _centred(layer, columns, clusters, dtype)
            yield rows, columns, first, second


def _centred(layer: LayerStates, block: slice, clusters: np.ndarray, dtype: type) -> cka.Centred:
    """Gram matrices of some languages, each up to a factor that CKA divides out.

    The factor (the largest entry) keeps float32 from overflowing.
    """
    grams = []
    for n in layer.all_languages[block]:
        gram = np.full((1, layer.n_items, layer.n_items), np.nan)
        if layer.sound[n]:
            x = layer.of(n) - layer.of(n).mean(axis=0)
            x = (x / (np.abs(x).max() or 1.0)).astype(np.float32)
            gram[0] = x @ x.T
        grams.append(cka.side_by_side([cka.centred_over_clusters(gram, clusters)], dtype))
    return cka.side_by_side(grams, dtype)
