"""How many parameters an organism has, known without making it."""

from isogloss.questions.world import World


def n_parameters(world: World, width: int, layers: int) -> int:
    """Parameters of the ordinary model that an organism is written out as.

    Embedding, tied to the unembedding; by block, four matrices of attention, three of an MLP twice
    as wide, two norms; the final norm.

    >>> n_parameters(World(("qaa", "qab")), width=16, layers=1)
    7424
    """
    block = 4 * width**2 + 3 * width * 2 * width + 2 * width
    return world.vocabulary_size * width + layers * block + width
