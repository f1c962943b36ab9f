"""One row a question: the prompt once, and every phrase behind it as a tree of tokens.

Phrases that begin alike share their tokens, and the last token of a phrase, which predicts
nothing that is scored, is left out: a phrase of one token costs nothing. Each token attends to
the prompt and to its own ancestors, and its position counts from the prompt's end, so that
every path through the tree is computed as if it stood alone (METHOD 9.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from isogloss.prompts import Question


@dataclass(frozen=True)
class Tree:
    """A question laid out in one row.

    Attributes:
        tokens: (length,) the prompt's ids, then the nodes of the phrases' tree.
        positions: (length,) position of each token on its own path.
        parents: (length,) row index of the token before it on its path; -1 for the first.
        n_prompt: tokens of the prompt.
        predicting: (row,) places whose states predict a scored token, the prompt's end first.
        target_row: (target,) which of `predicting` predicts it.
        target_token: (target,) the token predicted.
        target_phrase: (target,) index of its phrase in the question.
        target_position: (target,) its place in the phrase.
    """

    tokens: np.ndarray
    positions: np.ndarray
    parents: np.ndarray
    n_prompt: int
    predicting: np.ndarray
    target_row: np.ndarray
    target_token: np.ndarray
    target_phrase: np.ndarray
    target_position: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)


def lay_out(question: Question) -> Tree:
    """The tree of one question.

    A prompt without phrases (a parallel sentence) is a row without targets.
    """
    end = len(question.prompt) - 1
    tokens, parents = list(question.prompt), list(range(-1, end))
    positions = list(range(end + 1))
    node: dict[tuple[int, int], int] = {}  # (place of the parent, token) -> place
    targets: list[tuple[int, int, int, int]] = []
    for number, phrase in enumerate(question.phrases):
        place = end
        for depth, token in enumerate(phrase.tokens):
            targets.append((place, token, number, depth))
            if depth == len(phrase.tokens) - 1:
                break
            if (place, token) not in node:
                node[place, token] = len(tokens)
                tokens.append(token)
                parents.append(place)
                positions.append(end + 1 + depth)
            place = node[place, token]
    table = np.array(targets, dtype=np.int64).reshape(-1, 4)
    predicting, row = np.unique(table[:, 0], return_inverse=True)
    return Tree(
        np.array(tokens), np.array(positions), np.array(parents), end + 1,
        predicting, row, *table[:, 1:].T,
    )  # fmt: skip


def visible(tree: Tree) -> np.ndarray:
    """(length, length) bool: which tokens each token attends to.

    A node sees what its parent sees, and itself.
    """
    seen = np.eye(len(tree), dtype=bool)
    n = tree.n_prompt
    seen[:n, :n] = np.tri(n, dtype=bool)
    for place in range(n, len(tree)):
        seen[place] |= seen[tree.parents[place]]
    return seen


@dataclass(frozen=True)
class Batch:
    """Trees of about the same length, right-padded.

    Attributes:
        members: index of each row's tree among all trees.
        tokens, positions: (row, length) int64.
        mask: (row, length, length) bool, True where attended; padding sees only itself.
        n_prompt: (row,) tokens of each prompt.
    """

    members: tuple[int, ...]
    tokens: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    n_prompt: torch.Tensor


def collate(trees: Sequence[Tree], members: Sequence[int]) -> Batch:
    """Right-pad the trees with these indices into one batch."""
    length = max(len(trees[m]) for m in members)
    tokens = np.zeros((len(members), length), dtype=np.int64)
    positions = np.zeros_like(tokens)
    mask = np.repeat(np.eye(length, dtype=bool)[None], len(members), axis=0)
    for row, member in enumerate(members):
        tree = trees[member]
        n = len(tree)
        tokens[row, :n], positions[row, :n] = tree.tokens, tree.positions
        mask[row, :n, :n] = visible(tree)
    n_prompt = torch.tensor([trees[m].n_prompt for m in members])
    return Batch(
        tuple(members), torch.from_numpy(tokens), torch.from_numpy(positions),
        torch.from_numpy(mask), n_prompt,
    )  # fmt: skip


def batches(trees: Sequence[Tree], members: Sequence[int], budget: int) -> list[list[int]]:
    """Members in batches of at most `budget` tokens, padding counted, longest rows first.

    A row longer than the budget makes a batch of its own.

    >>> rows = [np.zeros(n) for n in (3, 9, 4, 8)]
    >>> batches(rows, range(4), budget=18)
    [[1, 3], [2, 0]]
    """
    made: list[list[int]] = []
    for member in sorted(members, key=lambda m: (-len(trees[m]), m)):
        longest = len(trees[made[-1][0]]) if made else 0
        if not made or longest * (len(made[-1]) + 1) > budget:
            made.append([])
        made[-1].append(member)
    return made
