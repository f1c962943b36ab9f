"""Methods and controls of steering, by name: for settings, which need nothing that computes."""

from typing import Literal, get_args

Method = Literal["mean_difference", "shared_projection", "shared_centroid", "linear_map"]
Control = Literal["random", "shuffled_language", "wrong_layer", "reverse", "zero"]
METHODS: tuple[Method, ...] = get_args(Method)
CONTROLS: tuple[Control, ...] = get_args(Control)
