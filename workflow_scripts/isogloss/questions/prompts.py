"""From items to token ids: prompts, and the phrases that are scored after them.

The separator between prompt and choice belongs to the choice and to its language. A choice's
tokens are those that follow the prompt's own in the tokenised whole; where the tokeniser merges
across the boundary the choice is tokenised by itself and counted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from isogloss.errors import InputError
from isogloss.questions.chat import DATE, chat_text, check_still
from isogloss.questions.items import Item, ParallelItems, same_text
from isogloss.questions.languages import separator

LATENTS = ("prompt", "pivot", "control", "prompt_mismatched", "pivot_mismatched")
"""Whose words are scored, in the order of an artifact's axis `latent`."""

LETTERS = "ABCDEFGHIJ"
# What PMI's phrases follow where the template without its question is empty.
NEUTRAL = "\n"


@dataclass(frozen=True)
class PromptStyle:
    """How a question becomes a prompt.

    Attributes:
        mode: "raw" (the template alone), "chat" (the template as a user's turn in the model's
            own chat template) or "few_shot" (worked items before it, `worked_items`).
        templates: by language, with "default" for the others; fields {context} and {question}.
        shots: worked items before the question, in few_shot.
        truncate: drop tokens from the left of prompts longer than the context, and count them;
            otherwise such a prompt is an error.
        chat_date: in chat, the date that the model's template gets (YYYY-MM-DD).
        chat_options: in chat, further variables of the model's template.
    """

    mode: str
    templates: Mapping[str, str]
    shots: int = 0
    truncate: bool = False
    chat_date: str = DATE
    chat_options: Mapping[str, Any] = field(default_factory=dict)

    def template(self, language: str) -> str:
        return self.templates.get(language, self.templates["default"])


@dataclass(frozen=True)
class Phrase:
    """Text scored after a prompt.

    Attributes:
        latent: index into LATENTS: whose words these are.
        choice: index of the choice (0 for the gold answer of a mismatched item).
        tokens: token ids, at least one.
        merged: tokenised by itself, since the tokeniser merges it with the prompt's end.
    """

    latent: int
    choice: int
    tokens: tuple[int, ...]
    merged: bool


@dataclass(frozen=True)
class Question:
    """One prompt and every phrase scored after it.

    Attributes:
        item: index of the item.
        kind: "main" (gives states and scores), "unconditional" (the template without question
            and context, for PMI) or "letter" (options listed in the prompt, phrases are their
            letters).
        prompt: token ids, BOS included where the model uses one.
        phrases: what is scored.
        truncated: tokens dropped from the left.
    """

    item: int
    kind: str
    prompt: tuple[int, ...]
    phrases: tuple[Phrase, ...]
    truncated: int = 0


class Tokens:
    """A model's tokeniser with the exact number of BOS tokens.

    Args:
        tokenizer: a fast tokeniser of transformers.
        start: the tokens that every sequence of this model begins with: BOS, mostly, or none.
    """

    def __init__(self, tokenizer: Any, start: Sequence[int]) -> None:
        self.tokenizer, self.start = tokenizer, tuple(start)

    @cached_property
    def _special(self) -> re.Pattern | None:
        """What the special tokens look like; None where there are none."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = {token.content for token in added.values() if token.special}
        special |= set(getattr(self.tokenizer, "all_special_tokens", ()))
        spelled = sorted((text for text in special if text.strip()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, spelled))) if spelled else None

    def check_texts(self, items: ParallelItems, language: str) -> None:
        """Refuse items that spell a special token, which the tokenizer would take for it.

        Raises:
            InputError: names item, language and token: `<s>` is BOS of some models and a tag of
                HTML.
        """
        for item in items.items[language] if self._special else ():
            for text in (item.context, item.question, *item.choices):
                if match := self._special.search(text):  # type: ignore[union-attr]
                    raise InputError(
                        f'item "{item.item_id}" ({language}): spells "{match[0]}", a special token '
                        "of this model: leave the item out (exclude), or write it otherwise"
                    )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids without any special token that the text does not spell out itself."""
        return self.tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []

    def begin(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids behind exactly one BOS, whatever it is called, or none where the model uses none.

        Raises:
            InputError: the text itself spells out BOS more than once.
        """
        spelled = tuple(ids[: len(self.start)]) == self.start
        body = tuple(ids[len(self.start) :] if spelled else ids)
        if often := max((body.count(token) for token in self.start), default=0):
            raise InputError(
                f"prompt has {1 + often} BOS tokens, the model expects 1: "
                "remove BOS from the template"
            )
        return (*self.start, *body)

    def after(self, prompt: str, phrases: Sequence[str]) -> Iterator[tuple[tuple[int, ...], bool]]:
        """Tokens of each phrase as it stands after a prompt, and whether it merged with it."""
        start, *whole = self.encode([prompt, *(prompt + phrase for phrase in phrases)])
        merged = [ids[: len(start)] != start for ids in whole]
        alone = iter(self.encode([p for p, apart in zip(phrases, merged, strict=True) if apart]))
        for ids, apart in zip(whole, merged, strict=True):
            yield tuple(next(alone) if apart else ids[len(start) :]), apart


def prompt_text(items: ParallelItems, language: str, index: int, style: PromptStyle) -> str:
    """The text of one prompt, before any chat template."""
    item = items.items[language][index]
    return _shots(items, language, index, style) + _fill(style, language, item)


def _shots(items: ParallelItems, language: str, index: int, style: PromptStyle) -> str:
    """The worked items before one question; empty in other modes than few_shot."""
    if style.mode != "few_shot":
        return ""
    asked, gap = items.items[language], separator(language)
    worked = [asked[i] for i in worked_items(items, index, style.shots)]
    return "".join(f"{_fill(style, language, w)}{gap}{w.choices[w.answer]}\n\n" for w in worked)


def _fill(style: PromptStyle, language: str, item: Item) -> str:
    return style.template(language).format(context=item.context, question=item.question).strip()


def worked_items(items: ParallelItems, index: int, shots: int) -> list[int]:
    """The first `shots` items of `worked_order` that are of other clusters than this one.

    So they are the same for every item but those of the clusters that they are of. What differed
    from item to item would be alike in all languages, and pass for states that these share.
    """
    clusters = items.clusters
    others = (int(i) for i in items.worked_order if clusters[i] != clusters[index])
    chosen = list(islice(others, shots))
    if len(chosen) < shots:
        raise InputError(
            f"few_shot: {shots} shots from other clusters, only {len(chosen)} items are: "
            "lower `prompt.shots`"
        )
    return chosen


def prompt_clusters(items: ParallelItems, style: PromptStyle) -> np.ndarray:
    """(item,) clusters of the prompts: items with text of one another in them are one cluster.

    In few_shot the clusters of all worked items: an item of one of them has others in its prompt
    than the rest have, and one of these is the item that stands in for it.
    """
    clusters = items.clusters
    if style.mode != "few_shot":
        return clusters
    one_of_each = np.unique(clusters, return_index=True)[1]
    shown = {i for index in one_of_each for i in worked_items(items, int(index), style.shots)}
    pool = np.unique(clusters[list(shown)])
    return np.where(np.isin(clusters, pool), pool[0], clusters)


def mismatched(clusters: np.ndarray, answers: Sequence[np.ndarray] = ()) -> np.ndarray:
    """(item,) another item, of another cluster, for each item; -1 where there is none.

    Every item is used about equally often: a seeded cycle, stepped on past one's own cluster.

    Args:
        clusters: (item,) labels.
        answers: (item,) each, labels in which the two have to differ as well. Of those that fit,
            the next of those that were taken least: else some of few would be taken by many.
    """
    n_items = len(clusters)
    order = np.random.default_rng(0).permutation(n_items)
    labels = np.stack([clusters, *answers])[:, order]
    cycle, partner = np.hstack([labels, labels]), np.full(n_items, -1)
    times = np.zeros(n_items, dtype=int)
    for place, item in enumerate(order):
        if not answers and cycle[0, place] != cycle[0, place + 1]:  # almost always
            partner[item] = order[(place + 1) % n_items]
            continue
        following = cycle[:, place + 1 : place + n_items]
        fits = np.flatnonzero((following != labels[:, [place]]).all(axis=0))
        if fits.size:
            others = order[(place + 1 + fits) % n_items]
            partner[item] = others[times[others].argmin() if answers else 0]
            times[partner[item]] += 1
    return partner


def partners(items: ParallelItems, clusters: np.ndarray, language: str, pivot: str) -> np.ndarray:
    """(item,) the item whose right choice is scored after each prompt as a mismatched phrase.

    Of another cluster, and with another right choice in the prompt's language and the pivot's: in
    questions to be answered yes or no it would else be the item's own in half of all cases.

    Args:
        clusters: `prompt_clusters`.

    Returns:
        -1 where there is none.
    """
    partner, languages = mismatched(clusters), {language, pivot}
    if not any(_meet(items, partner, tag) for tag in languages):
        return partner
    return mismatched(clusters, [_right_choices(items, tag) for tag in languages])


def other_partners(items: ParallelItems, style: PromptStyle, pivot: str) -> set[str]:
    """Languages in which right choices that are alike move `partners` from those by clusters."""
    partner = mismatched(prompt_clusters(items, style))
    if _meet(items, partner, pivot):
        return set(items.languages)
    return {tag for tag in items.languages if _meet(items, partner, tag)}


def _meet(items: ParallelItems, partner: np.ndarray, language: str) -> bool:
    """Whether any item's right choice is that of its partner; sentences have none."""
    if not items.n_choices.any():
        return False
    choice, paired = _right_choices(items, language), np.flatnonzero(partner >= 0)
    return bool((choice[paired] == choice[partner[paired]]).any())


def _right_choices(items: ParallelItems, language: str) -> np.ndarray:
    """(item,) a number for the text of each right choice, the same for `same_text`."""
    texts = [same_text(item.choices[item.answer]) for item in items.items[language]]
    return np.unique(texts, return_inverse=True)[1]


def control_language(language: str, pivot: str, candidates: Sequence[str]) -> str | None:
    """The first candidate that is neither the prompt's language nor the pivot."""
    return next((c for c in candidates if c not in (language, pivot)), None)


def questions(
    items: ParallelItems,
    language: str,
    tokens: Tokens,
    style: PromptStyle,
    *,
    pivot: str,
    control: str | None,
    latents: bool = True,
    pmi: bool = False,
    letters: bool = False,
    context_length: int | None = None,
    vocabulary: int | None = None,
    dropped: Sequence[int] | None = None,
) -> list[Question]:
    """Every prompt of one language with all that is scored after it.

    PMI's unconditional prompt is the template without question and context, and without worked
    items in few_shot; where nothing is left of it, as of "{question}", it is one line break.

    Args:
        items: the dataset, with the pivot's and the control's languages.
        language: language of the prompts.
        tokens: the model's tokeniser.
        style: how prompts are made.
        pivot: language whose choices ride along.
        control: a second latent language, neither the prompt's nor the pivot.
        latents: whether the pivot's, control's and mismatched phrases ride along; steering
            needs the prompt language's own choices only.
        pmi: add one unconditional question an item.
        letters: add one question an item and cyclic rotation of its options.
        context_length: the model's.
        vocabulary: tokens that the model has an embedding of.
        dropped: by item, tokens that were dropped from the left where more phrases rode along:
            as many are dropped again, so that the prompt is the same.

    Raises:
        InputError: a choice without tokens, a prompt longer than the context, a special token
            spelled out by an item, a token beyond the vocabulary, a chat template that moves.
    """
    partner = partners(items, prompt_clusters(items, style), language, pivot) if latents else None
    spoken = dict.fromkeys(tag for tag in (language, pivot, control) if tag and tag in items.items)
    for tag in spoken if latents else [language]:
        tokens.check_texts(items, tag)
    if style.mode == "chat":
        text = prompt_text(items, language, 0, style)
        check_still(tokens.tokenizer, text, style.chat_date, style.chat_options)
    made = []
    for index in range(len(items.items[language])):
        text = _chat(prompt_text(items, language, index, style), tokens, style)
        wanted = _phrases(items, language, index, pivot, control, partner)
        if style.mode == "chat":
            wanted = [(latent, choice, words.lstrip()) for latent, choice, words in wanted]
        made.append(_question(tokens, index, "main", text, wanted))
        if pmi:
            empty = Item(items.item_ids[index], "", "", items.items[language][index].choices, 0)
            bare = _chat(_fill(style, language, empty) or NEUTRAL, tokens, style)
            alone = [w for w in wanted if w[0] == 0]
            made.append(_question(tokens, index, "unconditional", bare, alone))
        if letters:
            made += _letter_questions(items, language, index, tokens, style)
    if vocabulary is not None:
        _check_vocabulary(made, items, language, tokens, vocabulary)
    cut = dropped if dropped is not None else [0] * len(items.item_ids)
    return [_fit(q, items, language, style, tokens, context_length, cut[q.item]) for q in made]


def _check_vocabulary(
    made: Sequence[Question], items: ParallelItems, language: str, tokens: Tokens, vocabulary: int
) -> None:
    """Refuse tokens without an embedding: fine-tuned tokenizers have some that were added."""
    for question in made:
        used = [question.prompt, *(phrase.tokens for phrase in question.phrases)]
        if (largest := max((max(ids, default=0) for ids in used), default=0)) >= vocabulary:
            spelled = tokens.tokenizer.convert_ids_to_tokens(largest)
            raise InputError(
                f'item "{items.item_ids[question.item]}" ({language}): token "{spelled}" is number '
                f"{largest}, the model has embeddings of {vocabulary}: save the model with an "
                "embedding of every token of its tokenizer, or use a prompt without this one"
            )


def _phrases(
    items: ParallelItems,
    language: str,
    index: int,
    pivot: str,
    control: str | None,
    partner: np.ndarray | None,
) -> list[tuple[int, int, str]]:
    """(latent, choice, separator and words) of everything scored after one prompt."""
    roles = {"prompt": language}
    if partner is not None:
        roles |= {} if language == pivot else {"pivot": pivot}
        roles |= {} if control is None else {"control": control}
    wanted = [
        (LATENTS.index(role), choice, separator(spoken) + words)
        for role, spoken in roles.items()
        for choice, words in enumerate(items.items[spoken][index].choices)
    ]
    if partner is not None and partner[index] >= 0 and wanted:
        for role in ("prompt", "pivot"):
            if role in roles:
                other = items.items[roles[role]][partner[index]]
                words = separator(roles[role]) + other.choices[other.answer]
                wanted.append((LATENTS.index(f"{role}_mismatched"), 0, words))
    return wanted


def _question(
    tokens: Tokens, index: int, kind: str, text: str, wanted: list[tuple[int, int, str]]
) -> Question:
    tokenized = tokens.after(text, [words for _, _, words in wanted])
    phrases = tuple(
        Phrase(latent, choice, ids, merged)
        for (latent, choice, _), (ids, merged) in zip(wanted, tokenized, strict=True)
    )
    return Question(index, kind, tokens.begin(tokens.encode([text])[0]), phrases)


def _letter_questions(
    items: ParallelItems, language: str, index: int, tokens: Tokens, style: PromptStyle
) -> list[Question]:
    """One question a cyclic rotation of the options, which takes out position bias.

    In few_shot the worked items go before it as they go before the main prompt: without a list
    of options, and answered in words.
    """
    item = items.items[language][index]
    n = len(item.choices)
    if n > len(LETTERS):
        raise InputError(
            f'item "{item.item_id}" ({language}): {n} choices, letters end at {LETTERS[-1]}: '
            "set extraction.letters: false, or leave the item out"
        )
    made, shots = [], _shots(items, language, index, style)
    for shift in range(n):
        order = [(place + shift) % n for place in range(n)]
        listed = "".join(f"\n{LETTERS[p]}. {item.choices[c]}" for p, c in enumerate(order))
        asked = Item(item.item_id, item.context, item.question + listed, item.choices, item.answer)
        text = _chat(shots + _fill(style, language, asked), tokens, style)
        gap = "" if style.mode == "chat" else separator(language)
        wanted = [(0, choice, gap + LETTERS[place]) for place, choice in enumerate(order)]
        made.append(_question(tokens, index, "letter", text, wanted))
    return made


def _chat(text: str, tokens: Tokens, style: PromptStyle) -> str:
    if style.mode != "chat":
        return text
    return chat_text(tokens.tokenizer, text, style.chat_date, style.chat_options)


def _fit(
    question: Question,
    items: ParallelItems,
    language: str,
    style: PromptStyle,
    tokens: Tokens,
    context_length: int | None,
    dropped: int,
) -> Question:
    """Refuse what the model cannot score; truncate from the left where that is asked for."""
    where = f'item "{items.item_ids[question.item]}" ({language})'
    for phrase in question.phrases:
        if not phrase.tokens:
            raise InputError(
                f"{where}: choice {phrase.choice} ({LATENTS[phrase.latent]}) has no token in this "
                "model's tokeniser: change its text"
            )
    head = len(tokens.start)
    least = max(2, head + 1)  # states leave out the first position
    if len(question.prompt) < (1 if question.kind == "unconditional" else least):
        raise InputError(f"{where}: prompt of {len(question.prompt)} token: change the template")
    longest = max((len(p.tokens) for p in question.phrases), default=0)
    over = max(dropped, len(question.prompt) + longest - (context_length or 10**9))
    if over <= 0:
        return question
    if not style.truncate:
        raise InputError(
            f"{where}: {len(question.prompt) + longest} tokens, the model's context holds "
            f"{context_length}: set prompt.truncate: true, or leave the item out"
        )
    kept = question.prompt[:head] + question.prompt[head + over :]
    if len(kept) < least:
        raise InputError(
            f"{where}: a choice of {longest} tokens leaves no room for the prompt in the model's "
            f"context of {context_length}: leave the item out"
        )
    return Question(question.item, question.kind, kept, question.phrases, over)
