"""A question as a tree of tokens: the prompt once, and every phrase behind it.

Phrases that begin alike share their tokens, and the last token of a phrase, which predicts
nothing that is scored, is left out: a phrase of one token costs nothing. Each token attends to
the prompt and to its own ancestors, and its position counts from the prompt's end, so that
every path through the tree is computed as if it stood alone. For the same reason several
short questions can lie in one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from isogloss.model.rotary import Reach, ordinary
from isogloss.questions.prompts import Question

# Rows of several questions are about this long: a longer one costs attention over more places
# that are not seen, a shorter one leaves more of itself empty.
ROW = 128


@dataclass(frozen=True)
class Tree:
    """A question laid out.

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
        prompt_place: (length,) place of each token in the prompt; -1 for those of phrases.
        reach: (length,) what its position embedding depends on but its position, see
            `isogloss.model.rotary`; 0 in almost all models.
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
    prompt_place: np.ndarray
    reach: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)


def lay_out(question: Question, reach: Reach = ordinary) -> Tree:
    """The tree of one question.

    A prompt without phrases (a parallel sentence) is a row without targets.

    Args:
        question: what is laid out.
        reach: of the model, where position embeddings go by the length of a sequence: the prompt is
            there once more for phrases of another reach than its own.
    """
    tokens: list[int] = []
    parents: list[int] = []
    positions: list[int] = []
    prompt_places: list[int] = []
    reaches: list[int] = []

    def add(token: int, parent: int, position: int, of_prompt: bool, reached: int) -> int:
        tokens.append(token)
        parents.append(parent)
        positions.append(position)
        prompt_places.append(position if of_prompt else -1)
        reaches.append(reached)
        return len(tokens) - 1

    n_prompt, ends = len(question.prompt), dict[int, int]()

    def prompt_end(reached: int) -> int:
        """Place of the prompt's end in the copy of a reach, which is added where it is missing."""
        if reached not in ends:
            place = -1
            for position, token in enumerate(question.prompt):
                place = add(token, place, position, True, reached)
            ends[reached] = place
        return ends[reached]

    prompt_end(reach(n_prompt))
    node: dict[tuple[int, int], int] = {}  # (place of the parent, token) -> place
    targets: list[tuple[int, int, int, int]] = []
    for number, phrase in enumerate(question.phrases):
        reached = reach(n_prompt + len(phrase.tokens) - 1)
        place = prompt_end(reached)
        for depth, token in enumerate(phrase.tokens):
            targets.append((place, token, number, depth))
            if depth == len(phrase.tokens) - 1:
                break
            if (place, token) not in node:
                node[place, token] = add(token, place, n_prompt + depth, False, reached)
            place = node[place, token]
    table = np.array(targets, dtype=np.int64).reshape(-1, 4)
    predicting, row = np.unique(table[:, 0], return_inverse=True)
    target_token, phrase_of, place_in_phrase = table[:, 1:].T
    return Tree(
        np.array(tokens), np.array(positions), np.array(parents), n_prompt,
        predicting, row, target_token, phrase_of, place_in_phrase,
        np.array(prompt_places), np.array(reaches),
    )  # fmt: skip


def visible(tree: Tree) -> np.ndarray:
    """(length, length) bool: which tokens each token attends to.

    A node sees what its parent sees, and itself.
    """
    seen = np.eye(len(tree), dtype=bool)
    n = tree.n_prompt
    seen[:n, :n] = np.tri(n, dtype=bool)
    for place in range(n, len(tree)):
        if tree.parents[place] >= 0:
            seen[place] |= seen[tree.parents[place]]
    return seen


@dataclass(frozen=True)
class Batch:
    """Rows of one tree or several: right-padded, or a single one without padding.

    Attributes:
        members: index of each tree among all trees, row by row.
        tokens, positions: (row, length) int64.
        mask: (row, length, widest segment) bool, True where attended; keys count from the
            beginning of the query's segment, and padding sees only itself.
        segments: lengths of the stretches of a row whose tokens see nothing of the others; one,
            the whole row, where rows are padded.
        n_prompt: (member,) tokens of each prompt.
        row, start: (member,) the row of each tree, and where in it the tree begins.
        prompt_place, reach: (row, length) of the tokens, as in a `Tree`; -1 and 0 where padded.
    """

    members: tuple[int, ...]
    tokens: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    segments: tuple[int, ...]
    n_prompt: torch.Tensor
    row: torch.Tensor
    start: torch.Tensor
    prompt_place: torch.Tensor
    reach: torch.Tensor


def collate(trees: Sequence[Tree], members: Sequence[int]) -> Batch:
    """The trees with these indices as one batch, each in a row of its own."""
    return collate_rows(trees, [[member] for member in members])


def collate_rows(
    trees: Sequence[Tree], rows: Sequence[Sequence[int]], joined: bool = False
) -> Batch:
    """One batch of the trees with these indices, those of a row one behind the other.

    Args:
        trees: of all questions.
        rows: indices of the trees of each row.
        joined: lay the rows themselves one behind the other, as the segments of a single one:
            nothing is padded then, but only attention by segments can run it.
    """
    sizes = [sum(len(trees[m]) for m in row) for row in rows]
    shape = (1, sum(sizes)) if joined else (len(rows), max(sizes))
    tokens = np.zeros(shape, dtype=np.int64)
    positions, reach = np.zeros_like(tokens), np.zeros_like(tokens)
    prompt_place = np.full_like(tokens, -1)
    mask = np.zeros((*shape, max(sizes)), dtype=bool)
    if not joined:
        mask |= np.eye(max(sizes), dtype=bool)
    placed = []
    for i, row in enumerate(rows):
        at, begin, end = (0, sum(sizes[:i]), 0) if joined else (i, 0, 0)
        for member in row:
            tree, start = trees[member], end
            end = start + len(tree)
            place = slice(begin + start, begin + end)
            tokens[at, place], positions[at, place] = tree.tokens, tree.positions
            prompt_place[at, place], reach[at, place] = tree.prompt_place, tree.reach
            mask[at, place, start:end] = visible(tree)
            placed.append((member, tree.n_prompt, at, begin + start))
    members, *columns = np.array(placed).T
    return Batch(
        tuple(members.tolist()), torch.from_numpy(tokens), torch.from_numpy(positions),
        torch.from_numpy(mask), tuple(sizes) if joined else shape[1:],
        *map(torch.from_numpy, map(np.ascontiguousarray, [*columns, prompt_place, reach])),
    )  # fmt: skip


def predicting_places(batch: Batch, trees: Sequence[Tree]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the states that predict, member after member."""
    sizes = [len(trees[m].predicting) for m in batch.members]
    column = np.concatenate([trees[m].predicting for m in batch.members])
    return np.repeat(batch.row.numpy(), sizes), column + np.repeat(batch.start.numpy(), sizes)


def joined_batches(
    trees: Sequence[Tree], members: Sequence[int], budget: int, length: int = ROW
) -> list[list[list[int]]]:
    """Members in batches of segments, for `collate_rows` to join; no tokens are padded.

    Batches are of about the same size, at most `budget` tokens but for a longer tree, which
    makes one of its own. Short trees share segments of up to `length` tokens.

    >>> rows = [np.zeros(n) for n in (3, 9, 4, 8)]
    >>> joined_batches(rows, range(4), budget=16, length=12)
    [[[0, 1]], [[2, 3]]]
    """
    total = sum(len(trees[m]) for m in members)
    n_batches = -(-total // budget)
    made: list[list[list[int]]] = []
    filled, ended = 0, 0
    for member in members:
        size = len(trees[member])
        full = made and filled + size - ended > budget
        if not made or full or filled >= len(made) * total / n_batches:
            made.append([])
            ended = filled
        segments = made[-1]
        if segments and sum(len(trees[m]) for m in segments[-1]) + size <= length:
            segments[-1].append(member)
        else:
            segments.append([member])
        filled += size
    return made


def batches(trees: Sequence[Tree], members: Sequence[int], budget: int) -> list[list[int]]:
    """Members in batches of at most `budget` tokens, padding counted, longest rows first.

    A row longer than the budget makes a batch of its own.

    >>> rows = [np.zeros(n) for n in (3, 9, 4, 8)]
    >>> batches(rows, range(4), budget=18)
    [[1, 3], [2, 0]]
    """
    made: list[list[int]] = []
    for member in longest_first(trees, members):
        longest = len(trees[made[-1][0]]) if made else 0
        if not made or longest * (len(made[-1]) + 1) > budget:
            made.append([])
        made[-1].append(member)
    return made


def packed_batches(
    trees: Sequence[Tree], members: Sequence[int], budget: int, length: int = ROW
) -> list[list[list[int]]]:
    """Members in batches of rows that hold several, at most `budget` tokens, padding counted.

    Rows are as long as the longest tree that is left, at least `length`. Each tree goes into the
    first row with room for it. A tree longer than the budget makes a batch of its own.

    >>> rows = [np.zeros(n) for n in (3, 9, 4, 8)]
    >>> packed_batches(rows, range(4), budget=24, length=12)
    [[[1, 0], [3, 2]]]
    """
    made: list[list[list[int]]] = []
    left = longest_first(trees, members)
    while left:
        room = max(min(length, budget), len(trees[left[0]]))
        rows, left = _first_fit(trees, left, room, max(1, budget // room))
        made.append(rows if left else _levelled(trees, rows))
    return made


def _first_fit(
    trees: Sequence[Tree], members: Sequence[int], room: int, n_rows: int
) -> tuple[list[list[int]], list[int]]:
    """Up to `n_rows` rows of up to `room` tokens, and the members that found no place."""
    rows: list[list[int]] = []
    free: list[int] = []
    left = []
    for member in members:
        size = len(trees[member])
        row = next((i for i, tokens in enumerate(free) if tokens >= size), len(rows))
        if row == n_rows:
            left.append(member)
            continue
        if row == len(rows):
            rows.append([])
            free.append(room)
        rows[row].append(member)
        free[row] -= size
    return rows, left


def _levelled(trees: Sequence[Tree], rows: list[list[int]]) -> list[list[int]]:
    """The same members in as many rows of lengths as equal as may be, where that is shorter."""
    level: list[list[int]] = [[] for _ in rows]
    filled = [0] * len(rows)
    for member in longest_first(trees, [m for row in rows for m in row]):
        row = filled.index(min(filled))
        level[row].append(member)
        filled[row] += len(trees[member])
    longest = max(sum(len(trees[m]) for m in row) for row in rows)
    return level if max(filled) < longest else rows


def longest_first(trees: Sequence[Tree], members: Sequence[int]) -> list[int]:
    """Members by length; those of equal length in their own order."""
    return sorted(members, key=lambda m: (-len(trees[m]), m))
