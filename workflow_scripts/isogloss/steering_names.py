"""Methods and controls of steering, by name: for settings, which need nothing that computes."""

METHODS = ("mean_difference", "shared_projection", "shared_centroid", "linear_map")
CONTROLS = ("random", "shuffled_language", "wrong_layer", "reverse", "zero")
