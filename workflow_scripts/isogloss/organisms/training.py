"""Training an organism, and going on where a killed run stopped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from isogloss.files.atomic import whole_file
from isogloss.organisms.evaluation import MEASURES, Exam, answer_loss, evaluate
from isogloss.organisms.organism import Organism
from isogloss.organisms.sequences import Corpus

WARM_UP = 50
"""Steps in which the learning rate rises to its value; it stays there, so that steps compare."""
BETAS, DECAY, LARGEST_GRADIENT = (0.9, 0.98), 0.01, 1.0

History = dict[str, list[float]]
"""`step` and the numbers of `evaluation.MEASURES` at every evaluation."""


@dataclass(frozen=True)
class Schedule:
    """How long an organism is trained, and how.

    Attributes:
        steps: the most that it is trained.
        batch: sequences of a step.
        learning_rate: of AdamW, once warmed up.
        until_loss: training ends at the first evaluation with no more loss on facts; None: never.
        evaluate_every: steps between evaluations.
    """

    steps: int
    batch: int
    learning_rate: float
    until_loss: float | None
    evaluate_every: int

    def is_over(self, history: History) -> bool:
        """Whether training ends after what has been evaluated."""
        if not history["step"]:
            return False
        fitted = self.until_loss is not None and history["loss"][-1] <= self.until_loss
        return fitted or history["step"][-1] >= self.steps


def train(
    organism: Organism,
    corpus: Corpus,
    exam: Exam,
    schedule: Schedule,
    work: Path,
    progress: Callable[[range], Iterable[int]] = iter,
) -> History:
    """Train an organism in place.

    What has been reached is written to a file at every evaluation. A run that finds it goes on
    from there, and gives what it would have given without having been stopped.

    Args:
        organism: with its initial weights.
        corpus: what it is trained on.
        exam: what it is asked at every evaluation.
        schedule: how long.
        work: file of what has been reached; removed by the caller.
        progress: wraps the steps.
    """
    optimiser = torch.optim.AdamW(
        organism.trained(), schedule.learning_rate, BETAS, weight_decay=DECAY, fused=True
    )
    history = _resume(organism, optimiser, work)
    if schedule.is_over(history):
        return history
    done = int(history["step"][-1]) if history["step"] else 0
    for step in progress(range(done, schedule.steps)):
        _step(organism, optimiser, corpus, schedule, step)
        if (step + 1) % schedule.evaluate_every == 0 or step + 1 == schedule.steps:
            history["step"].append(step + 1)
            for name, value in evaluate(organism, exam).items():
                history[name].append(round(value, 6))
            if schedule.is_over(history):
                break
            _save(organism, optimiser, history, work)
    return history


def _step(
    organism: Organism,
    optimiser: torch.optim.Optimizer,
    corpus: Corpus,
    schedule: Schedule,
    step: int,
) -> None:
    for group in optimiser.param_groups:
        group["lr"] = schedule.learning_rate * min(1.0, (step + 1) / WARM_UP)
    loss = answer_loss(organism, corpus.batch(step, schedule.batch), organism.embeddings())
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(organism.trained(), LARGEST_GRADIENT)
    optimiser.step()


def _save(
    organism: Organism, optimiser: torch.optim.Optimizer, history: History, work: Path
) -> None:
    """Write down weights, moments and history, whole or not at all."""
    tensors = {f"weight.{i}": p.detach() for i, p in enumerate(organism.trained())}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{name}.{i}": value for name, value in state.items()}
    kept = {name: torch.tensor(v, dtype=torch.float64) for name, v in history.items()}
    tensors |= {f"history.{name}": values for name, values in kept.items()}
    with whole_file(work) as temporary:
        save_file(tensors, temporary)


def _resume(organism: Organism, optimiser: torch.optim.Optimizer, work: Path) -> History:
    """Take over what a run that was stopped had reached; an empty history where there is none."""
    history: History = {name: [] for name in ("step", *MEASURES)}
    if not work.exists():
        return history
    try:
        with safe_open(work, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError):  # not whole: it is only a memory
        return history
    states: dict[int, dict[str, torch.Tensor]] = {}
    for i, parameter in enumerate(organism.trained()):
        with torch.no_grad():
            parameter.copy_(tensors[f"weight.{i}"])
        states[i] = {name: tensors[f"{name}.{i}"] for name in ("step", "exp_avg", "exp_avg_sq")}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    return {name: tensors[f"history.{name}"].tolist() for name in history}
