"""Custom measures: functions in a file of the study's author, for the calibration.

    def measure(states: np.ndarray) -> float

takes the states of parallel items at one layer, (language, item, feature) in float32, and returns
one number. The file is run as a program is: register only what you would run.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isogloss.errors import InputError, one_line
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.dissociation import is_middle

Measure = Callable[[np.ndarray], float]


def load_measure(place: str) -> Measure:
    """The function that `path.py:function` names.

    Raises:
        InputError: no such file or function, or the file does not run.
    """
    path, _, name = place.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InputError(f"measures: {path}: no such file: correct it")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever its author's file raises
        raise InputError(f"measures: {path}: does not run ({one_line(error)})") from error
    measure = getattr(module, name, None)
    if not callable(measure):
        raise InputError(f"measures: {path} has no function {name}: correct it")
    function: Measure = measure
    return function


def middle_value(measure: Measure, states: ParallelStates, name: str) -> float:
    """Mean of a measure over the layers in the middle half of relative depth.

    Raises:
        InputError: the measure fails, or gives no number.
    """
    layers = np.flatnonzero(is_middle(np.asarray(states.depths)))
    try:
        return float(np.mean([float(measure(states.at(int(layer)))) for layer in layers]))
    except Exception as error:  # whatever its author's function raises
        raise InputError(f"measures.{name}: fails ({one_line(error)}): correct it") from error
