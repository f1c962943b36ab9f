"""How an organism is doing while it is trained: what it knows, and what its languages share.

The measures are those of every other model (`isogloss.measures`), on the questions that
`isogloss.questions.world` would ask.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from isogloss.measures.behaviour import item_consistency, predictions, ranks
from isogloss.measures.dissociation import is_middle
from isogloss.measures.item_share import pair_item_share
from isogloss.measures.pooled import mean_over_pairs
from isogloss.measures.states import standardised
from isogloss.measures.statistics import Jackknife
from isogloss.measures.transfer import transfers
from isogloss.organisms.organism import Organism
from isogloss.organisms.sequences import Corpus, Sequences, statements
from isogloss.questions.world import N_CHOICES, AskedFacts, World

N_BRIDGE = 256
MEASURES = {
    "loss": "loss on facts that a language is trained on [nat per token]",
    "bridge_loss": "loss on the bridge [nat per token]",
    "accuracy_seen": "accuracy on facts that the language is trained on",
    "accuracy_unseen": "accuracy on facts that only other languages are trained on",
    "accuracy": "accuracy, mean over languages",
    "consistency": "consistency, mean over pairs",
    "lift": "positive transfer over that of accuracy alone, mean over pairs",
    "dissociation": "1 - item share, middle half of relative depth",
    "dissociation_within": "1 - item share within relation, middle half of relative depth",
}
"""What is measured at every evaluation."""


@dataclass(frozen=True)
class Exam:
    """What an organism is asked.

    Attributes:
        world: that it was trained on.
        asked: the facts, each in every language.
        bridge: sequences of its bridge; None where it has none.
    """

    world: World
    asked: AskedFacts
    bridge: Sequences | None

    @classmethod
    def of(cls, corpus: Corpus, asked: AskedFacts) -> "Exam":
        """The exam of an organism that is trained on a corpus."""
        bridge = corpus.bridge_sample(N_BRIDGE) if corpus.bridge else None
        return cls(corpus.world, asked, bridge)

    @property
    def statements(self) -> Sequences:
        """Every fact with each of its choices: (language x item x choice, position)."""
        n_languages, n_items = len(self.world.languages), len(self.asked.entity)
        entity, relation = (
            np.tile(np.repeat(index, N_CHOICES), n_languages)
            for index in (self.asked.entity, self.asked.relation)
        )
        named = np.tile(self.asked.choices.ravel(), n_languages)
        language = np.repeat(np.arange(n_languages), n_items * N_CHOICES)
        return statements(self.world, entity, relation, named, language)


def evaluate(organism: Organism, exam: Exam) -> dict[str, float]:
    """The numbers of MEASURES; `bridge_loss` is NaN without a bridge.

    The loss is a mean over the tokens of answers.
    """
    with torch.no_grad():
        matrix = organism.embeddings()
        scores, states = _scores_and_states(organism, exam, matrix)
        bridge = exam.bridge
        bridge_loss = (
            float("nan") if bridge is None else float(answer_loss(organism, bridge, matrix))
        )
    asked, world = exam.asked, exam.world
    n_items = len(asked.answer)
    n_choices = np.full(n_items, N_CHOICES)
    seen = world.seen[:, asked.entity, asked.relation]
    predicted = predictions(scores)
    right = predicted == asked.answer
    all_items = Jackknife.of(np.zeros(n_items, dtype=int))
    positive = transfers(predicted, asked.answer, n_choices, all_items)["positive"]
    consistency = item_consistency(ranks(scores, n_choices))
    gold = np.take_along_axis(scores, np.broadcast_to(asked.answer, seen.shape)[..., None], axis=-1)
    return {
        "loss": float(-gold[seen].mean()),
        "bridge_loss": bridge_loss,
        "accuracy_seen": _mean(right[seen]),
        "accuracy_unseen": _mean(right[~seen]),
        "accuracy": float(right.mean()),
        "consistency": float(mean_over_pairs(np.nanmean(consistency, axis=0))),
        "lift": float(mean_over_pairs((positive.observed - positive.independent)[0])),
        "dissociation": _dissociation(states),
        "dissociation_within": _dissociation([within_groups(x, asked.relation) for x in states]),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _dissociation(states: list[np.ndarray]) -> float:
    """1 - item share, mean over layers and over pairs of languages."""
    shares = [mean_over_pairs(pair_item_share(standardised(x))) for x in states]
    return float(1 - np.mean(shares))


def within_groups(states: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """States less the mean of their group in their language.

    What is left is the same place within groups: of items with the same relation, that relations
    alone are aligned makes no item share.

    Args: states (language, item, feature), groups (item,). Returns the shape of states.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    of_group = (codes[:, None] == np.arange(codes.max() + 1)).astype(float)
    means = of_group.T @ states / of_group.sum(axis=0)[:, None]
    return states - means[:, codes]


def answer_loss(
    organism: Organism, sequences: Sequences, matrix: torch.Tensor, by_token: bool = False
) -> torch.Tensor:
    """Cross-entropy of the tokens of the answers: their mean, or (sequence, token)."""
    ids, start = torch.from_numpy(sequences.ids), sequences.answer_from
    states = organism.states(ids[:, :-1], matrix)[:, start - 1 :]
    loss = functional.cross_entropy(
        (states @ matrix.T).flatten(0, 1), ids[:, start:].flatten(), reduction="none"
    )
    return loss.view(len(ids), -1) if by_token else loss.mean()


def _scores_and_states(
    organism: Organism, exam: Exam, matrix: torch.Tensor
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores (language, item, choice), and states of the prompts in the middle half of depth.

    States are (language, item, width), each the mean over the prompt without BOS.
    """
    sequences, world = exam.statements, exam.world
    shape = (len(world.languages), len(exam.asked.entity), N_CHOICES)
    kept: list[np.ndarray] = []
    blocks = organism.llama.model.layers
    depths = np.arange(len(blocks) + 1) / len(blocks)

    def keep(module: object, given: object, result: torch.Tensor) -> None:
        prompt = result[:, 1 : sequences.answer_from].mean(dim=1)
        kept.append(prompt.view(*shape, -1)[:, :, 0].numpy())

    # Block i gives the states of layer i + 1.
    with ExitStack() as hooks:
        for block, inside in zip(blocks, is_middle(depths)[1:], strict=True):
            if inside:
                hooks.enter_context(block.register_forward_hook(keep))
        loss = answer_loss(organism, sequences, matrix, by_token=True)
    return -loss.mean(dim=1).view(shape).numpy().astype(float), kept
