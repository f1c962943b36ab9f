"""Methods, controls and families of tests of steering, by name: nothing here computes."""

from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["mean_difference", "shared_projection", "shared_centroid", "linear_map"]
Control = Literal[
    "random", "shuffled_language", "shuffled_orthogonal", "wrong_layer", "reverse", "zero", "patch"
]
UNSEARCHED: tuple[Control, ...] = ("zero", "patch")
"""Controls that have no layer and strength to choose: they are run at the method's."""
METHODS: tuple[Method, ...] = get_args(Method)
CONTROLS: tuple[Control, ...] = get_args(Control)


@dataclass(frozen=True)
class Family:
    """Tests of the accuracy change that are adjusted together: their variables, and how to say it.

    Attributes:
        p, least: adjusted p and minimum detectable effect by language.
        pooled_p, pooled_least: the same of the mean over languages.
        tests: what the languages' tests are adjusted over.
        pooled_tests: what the test of the mean is; empty where it is adjusted over nothing.
    """

    p: str
    least: str
    pooled_p: str
    pooled_least: str
    tests: str
    pooled_tests: str

    @property
    def variables(self) -> list[str]:
        return [self.p, self.least, self.pooled_p, self.pooled_least]


MAIN_CLAIM = Family(
    "primary_p_holm",
    "primary_minimum_detectable_effect",
    "pooled_primary_p",
    "pooled_primary_minimum_detectable_effect",
    "Holm over languages, the family of the main claim",
    "",
)
ALL_METHODS = Family(
    "p_holm",
    "minimum_detectable_effect",
    "pooled_p_holm",
    "pooled_minimum_detectable_effect",
    "Holm over languages and methods",
    ", Holm over methods",
)


def family_of(method: str, default_method: str) -> Family:
    """The family that a method's tests are read in: the default one was named beforehand."""
    return MAIN_CLAIM if method == default_method else ALL_METHODS
