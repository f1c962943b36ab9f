from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InputError
from isogloss.model.adapt import begins_with
from isogloss.model.tiny_models import BOS, CHAT_TEMPLATE, FAMILIES, tiny_model, tiny_tokenizer
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.prompts import (
    LATENTS,
    PromptStyle,
    Tokens,
    control_language,
    mismatched,
    other_partners,
    partners,
    prompt_clusters,
    prompt_text,
    questions,
    worked_items,
)

RAW = PromptStyle("raw", {"default": "{context}\nQ: {question}\nA:"})
WORDS = {
    "en": ("bee", "honey", "the city"),
    "de": ("Biene", "Honig", "die Stadt"),
    "zh": ("蜜蜂", "蜂蜜", "城市"),
}
tokenizer = cache(tiny_tokenizer)


def tokens(bos=True):
    core = tokenizer(bos)
    return Tokens(core, begins_with(core))


def items(n=4, clusters=None, choices=WORDS, context="", question="what is it {}?"):
    made = {
        language: tuple(
            Item(f"q{i}", context, question.format(f"{language}{i}"), tuple(words), i % len(words))
            for i in range(n)
        )
        for language, words in choices.items()
    }
    return ParallelItems("made", made, np.arange(n) if clusters is None else np.array(clusters))


def ask(data, language="de", style=RAW, bos=True, **settings):
    settings = {"pivot": "en", "control": "zh"} | settings
    return questions(data, language, tokens(bos), style, **settings)


def spelled(ids):
    return tokenizer(True).decode(list(ids))


def by_role(question):
    return {(LATENTS[p.latent], p.choice): spelled(p.tokens) for p in question.phrases}


def test_phrases_are_the_choices_of_each_latent_language_behind_their_own_separator():
    phrases = by_role(ask(items())[1])
    for role, language, gap in (("prompt", "de", " "), ("pivot", "en", " "), ("control", "zh", "")):
        for choice, words in enumerate(WORDS[language]):
            assert phrases[role, choice] == gap + words


def test_chinese_prompts_take_choices_without_a_space():
    phrases = by_role(ask(items(), "zh", control="de")[0])
    assert phrases["prompt", 0] == "蜜蜂"
    assert phrases["pivot", 0] == " bee"


def test_mismatched_phrases_are_the_gold_of_an_item_of_another_cluster():
    data = items(4, clusters=[0, 0, 1, 1])
    for question in ask(data):
        phrases = by_role(question)
        others = [i for i in range(4) if data.clusters[i] != data.clusters[question.item]]
        gold = {" " + data.items["de"][i].choices[data.answers[i]] for i in others}
        assert phrases["prompt_mismatched", 0] in gold
        assert ("pivot_mismatched", 0) in phrases


def yes_or_no(answers, german=("ja", "nein"), english=("yes", "no")):
    """Questions with the same two choices, whose clusters are named."""
    made = {
        tag: tuple(Item(f"q{i}", "", f"{tag} {i}?", words, a) for i, a in enumerate(answers))
        for tag, words in (("de", german), ("en", english), ("zh", ("是", "否")))
    }
    return ParallelItems("made", made, np.arange(len(answers)))


@pytest.mark.parametrize("language", ["de", "en"])
def test_no_mismatched_phrase_is_the_right_choice_itself(language):
    data = yes_or_no([0, 0, 1, 0, 0, 1, 0, 0])
    assert other_partners(data, RAW, "en") == {"de", "en", "zh"}
    for question in ask(data, language):
        phrases, right = by_role(question), int(data.answers[question.item])
        for role in ("prompt", "pivot") if language == "de" else ("prompt",):
            wrong = phrases[role, 1 - right]
            assert phrases[f"{role}_mismatched", 0] == wrong


def test_right_choices_that_are_alike_in_one_language_move_its_partners_alone():
    data = items(8, choices={**WORDS, "en": ("a", "b", "c"), "de": ("A", "a", "b")})
    plain = mismatched(data.clusters)
    assert (data.answers[plain] == data.answers).any()
    clusters = data.answers  # right choices in en and zh tell clusters apart, those in de do not
    data = replace(data, clusters=clusters)
    assert other_partners(data, RAW, "en") == {"de"}
    plain = mismatched(clusters)
    for tag in ("en", "zh"):
        assert np.array_equal(partners(data, clusters, tag, "en"), plain)
    moved = partners(data, clusters, "de", "en")
    right = np.array(["a", "a", "b"])[data.answers]
    assert (right[moved] != right).all() and not np.array_equal(moved, plain)


def test_where_all_right_choices_are_alike_no_phrase_is_mismatched():
    for question in ask(yes_or_no([1, 1, 1])):
        assert {role for role, _ in by_role(question)} == {"prompt", "pivot", "control"}


@pytest.mark.parametrize("shots", [0, 4])
def test_mismatched_phrases_are_of_the_partners_that_the_lens_finds(shots):
    """It knows the clusters of the file alone, in which few_shot has joined some."""
    data = items(8)
    numbered = {  # no two right choices are alike
        tag: tuple(replace(q, choices=tuple(f"{w} {q.item_id}" for w in q.choices)) for q in asked)
        for tag, asked in data.items.items()
    }
    data = replace(data, items=numbered)
    style = replace(RAW, mode="few_shot", shots=shots) if shots else RAW
    partner = mismatched(prompt_clusters(data, style))
    assert not other_partners(data, style, "en")
    for question in ask(data, style=style):
        other = data.items["de"][partner[question.item]]
        expected = " " + other.choices[other.answer]
        assert by_role(question)["prompt_mismatched", 0] == expected


def test_the_pivots_own_prompts_have_no_pivot_phrases():
    roles = {role for role, _ in by_role(ask(items(), "en")[0])}
    assert roles == {"prompt", "control", "prompt_mismatched"}


def test_steering_asks_for_the_prompts_own_choices_only():
    question = ask(items(), latents=False, control=None)[0]
    assert [(p.latent, p.choice) for p in question.phrases] == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["raw", "few_shot", "chat"])
def test_exactly_one_bos_where_the_model_uses_one_else_none(family, mode):
    decoder = tiny_model(family)
    style = PromptStyle(mode, RAW.templates, shots=1 if mode == "few_shot" else 0)
    asked = questions(
        items(), "de", Tokens(decoder.tokenizer, decoder.start), style, pivot="en", control="zh",
        pmi=True, letters=True,
    )  # fmt: skip
    uses_one = family in ("gemma2", "gemma3", "llama", "mistral")
    assert bool(decoder.start) == uses_one
    for question in asked:
        assert question.prompt.count(0) == int(uses_one)
        assert (question.prompt[0] == 0) == uses_one
        assert not any(0 in phrase.tokens for phrase in question.phrases)


def test_a_chat_template_that_writes_bos_does_not_double_it():
    assert "bos_token" in CHAT_TEMPLATE
    style = replace(RAW, mode="chat")
    question = ask(items(), style=style)[0]
    text = spelled(question.prompt)
    assert text.startswith(f"{BOS}user: Q: what is it de0?") and text.count(BOS) == 1
    assert text.endswith("assistant: ")
    assert by_role(question)["prompt", 0] == "Biene"  # the template ends the turn with a space


def test_two_bos_in_the_text_are_refused():
    style = replace(RAW, templates={"default": f"{BOS}{BOS}{{question}}"})
    with pytest.raises(InputError, match="prompt has 2 BOS tokens, the model expects 1: remove"):
        ask(items(), style=style)


def test_chat_without_a_template_is_refused():
    core = tiny_tokenizer(True)
    core.chat_template = None
    with pytest.raises(InputError, match="no chat template: use raw"):
        questions(
            items(), "de", Tokens(core, (0,)), replace(RAW, mode="chat"), pivot="en", control=None
        )


def test_tokens_after_a_prompt_are_those_of_the_whole_text():
    made = tokens()
    prompt, phrase = "Q: what is it?\nA:", " the answer"
    ((ids, merged),) = made.after(prompt, [phrase])
    start, whole = made.encode([prompt, prompt + phrase])
    assert not merged and list(ids) == whole[len(start) :]


def test_a_merge_across_the_boundary_is_counted_and_the_choice_stands_alone():
    made = tokens()
    alone, start, whole = made.encode(["nd", "it a", "it and"])
    assert whole[: len(start)] != start  # the tokeniser does merge " a" with what follows
    ((ids, merged),) = made.after("it a", ["nd"])
    assert merged and list(ids) == alone


def test_merged_phrases_are_marked_in_the_questions():
    style = replace(RAW, templates={"default": "{question} a"})
    data = items(choices={"zh": ("nd", "x"), "en": ("nd", "x")})
    phrases = ask(data, "zh", style, control=None)[0].phrases
    marked = {(LATENTS[p.latent], p.choice): p.merged for p in phrases}
    assert marked["prompt", 0] and not marked["prompt", 1]
    assert not marked["pivot", 0]  # English choices follow a space


def test_few_shot_takes_worked_items_of_other_clusters_in_the_prompts_language():
    data = items(5, clusters=[0, 0, 1, 2, 2])
    style = replace(RAW, mode="few_shot", shots=2)
    for index in range(5):
        shots = worked_items(data, index, 2)
        assert all(data.clusters[s] != data.clusters[index] for s in shots)
        text = prompt_text(data, "de", index, style)
        parts = text.split("\n\n")
        assert len(parts) == 3
        for part, shot in zip(parts, shots, strict=False):
            worked = data.items["de"][shot]
            gold = worked.choices[worked.answer]
            assert part == f"Q: {worked.question}\nA: {gold}"
        assert parts[-1] == f"Q: {data.items['de'][index].question}\nA:"


def test_worked_items_are_of_the_smallest_clusters_and_the_same_for_all_others():
    data = items(9, clusters=[4, 4, 4, 2, 3, 1, 2, 1, 0])
    taken = [worked_items(data, index, 2) for index in range(9)]
    assert taken == [[4, 8]] * 4 + [[8, 3]] + [[4, 8]] * 3 + [[4, 3]]
    clusters = prompt_clusters(data, replace(RAW, mode="few_shot", shots=2))
    assert clusters.tolist() == [4, 4, 4, 0, 0, 1, 0, 1, 0]
    assert prompt_clusters(data, RAW) is data.clusters


@pytest.mark.parametrize("clusters", [range(12), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 5], [0, 1] * 6])
@pytest.mark.parametrize("shots", [1, 3, 5])
def test_prompts_of_different_clusters_have_no_text_in_common_but_what_all_have(clusters, shots):
    data, style = items(12, clusters=clusters), replace(RAW, mode="few_shot", shots=shots)
    texts = [{index, *worked_items(data, index, shots)} for index in range(12)]
    joined = prompt_clusters(data, style)
    rest = [index for index in range(12) if joined[index] != joined[data.worked_order[0]]]
    common = set.intersection(*(texts[index] for index in rest)) if rest else set()
    for index in rest:
        assert texts[index] - common == {index}
    in_the_pool = {i for i in range(12) if i not in rest}
    assert all(texts[index] <= in_the_pool for index in in_the_pool)


def test_few_shot_without_enough_other_clusters_is_refused():
    with pytest.raises(InputError, match="2 shots from other clusters, only 1 items are"):
        worked_items(items(3, clusters=[0, 0, 1]), 0, 2)


def test_few_shot_in_chinese_has_no_space_before_the_answer():
    style = replace(RAW, mode="few_shot", shots=1)
    assert "A:蜂蜜\n\nQ:" in prompt_text(items(), "zh", 0, style)


def test_a_language_has_its_own_template():
    style = replace(RAW, templates={"default": "{question}", "zh": "问：{question}"})
    assert prompt_text(items(), "zh", 0, style) == "问：what is it zh0?"
    assert prompt_text(items(), "de", 0, style) == "what is it de0?"


def test_braces_in_a_question_are_text():
    data = items(question="{{x}} {}?")
    assert prompt_text(data, "de", 0, RAW) == "Q: {x} de0?\nA:"


def test_an_empty_context_leaves_no_empty_line():
    assert prompt_text(items(), "de", 0, RAW).startswith("Q:")
    assert prompt_text(items(context="Long ago."), "de", 0, RAW).startswith("Long ago.\nQ:")


def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(InputError, match=r'item "q0" \(de\): \d+ tokens, .* holds 20'):
        ask(items(context="x" * 40), context_length=20)


def test_truncation_drops_from_the_left_behind_bos_and_counts():
    data, style = items(context="x" * 40), replace(RAW, truncate=True)
    whole, cut = ask(data)[0], ask(data, style=style, context_length=50)[0]
    longest = max(len(p.tokens) for p in whole.phrases)
    assert cut.truncated == len(whole.prompt) + longest - 50 > 0
    assert len(cut.prompt) + longest == 50
    assert cut.prompt[0] == 0 and cut.prompt[1:] == whole.prompt[1 + cut.truncated :]
    assert cut.phrases == whole.phrases
    fits = ask(items(), style=style, context_length=500)[0]
    assert fits.truncated == 0 and fits.prompt == ask(items())[0].prompt


def test_steering_scores_the_prompt_that_extraction_cut():
    """Extraction makes room for the pivot's phrases, which steering does not score."""
    long = {**WORDS, "en": ("bee", "a very long English answer indeed", "the city")}
    data = items(context="x" * 40, choices=long)
    settings = {"style": replace(RAW, truncate=True), "control": None, "context_length": 60}
    extracted = ask(data, **settings)
    dropped = [question.truncated for question in extracted]
    steered = ask(data, latents=False, dropped=dropped, **settings)
    assert min(dropped) > 0
    assert [q.prompt for q in steered] == [q.prompt for q in extracted]
    assert ask(data, latents=False, **settings)[0].prompt != extracted[0].prompt


def test_without_bos_truncation_keeps_no_first_token():
    data, style = items(context="xyz" * 20), replace(RAW, truncate=True)
    whole = ask(data, bos=False)[0]
    cut = ask(data, style=style, bos=False, context_length=50)[0]
    assert cut.prompt == whole.prompt[cut.truncated :]


@pytest.mark.parametrize("bos", [True, False])
def test_truncation_that_leaves_no_prompt_is_refused(bos):
    data = items(choices={"en": ("a", "b" * 30), "de": ("a", "c" * 30)})
    style = replace(RAW, truncate=True)
    for context_length in (20, 31):
        with pytest.raises(InputError, match=r'item "q0" \(de\): .*context'):
            ask(data, style=style, bos=bos, control=None, context_length=context_length)


def test_a_choice_without_tokens_is_refused():
    class Forgetful(Tokens):
        def encode(self, texts):
            return super().encode([t.replace("Honig", "").rstrip() for t in texts])

    core = tokenizer(True)
    with pytest.raises(InputError, match=r'item "q0" \(de\): choice 1 \(prompt\) has no token'):
        questions(items(), "de", Forgetful(core, (0,)), RAW, pivot="en", control="zh")


def test_an_empty_prompt_is_refused():
    style = replace(RAW, templates={"default": "{context}"})
    with pytest.raises(InputError, match="prompt of 1 token: change the template"):
        ask(items(), style=style)


def test_letters_rotate_so_that_every_choice_has_every_letter_once():
    data = items(2)
    asked = [q for q in ask(data, letters=True) if q.kind == "letter"]
    assert Counter(q.item for q in asked) == {0: 3, 1: 3}
    letters = {}
    for question in (q for q in asked if q.item == 0):
        listed = spelled(question.prompt).split("\n")[1:4]
        for phrase in question.phrases:
            letter = spelled(phrase.tokens).strip()
            assert f"{letter}. {WORDS['de'][phrase.choice]}" in listed
            letters.setdefault(phrase.choice, []).append(letter)
    assert {choice: sorted(letters_of_choice) for choice, letters_of_choice in letters.items()} == {
        choice: ["A", "B", "C"] for choice in range(3)
    }


def test_more_options_than_letters_are_refused():
    words = tuple(f"w{i}" for i in range(11))
    data = items(1, choices={"en": words, "de": words})
    with pytest.raises(InputError, match=r'item "q0" \(de\): 11 choices, letters end at J'):
        ask(data, letters=True, control=None)


def test_pmi_asks_the_same_choices_after_a_prompt_without_its_question():
    main, bare = ask(items(), pmi=True)[:2]
    assert (main.kind, bare.kind, bare.item) == ("main", "unconditional", 0)
    assert spelled(bare.prompt) == f"{BOS}Q: \nA:"
    prompt_phrases = [p for p in main.phrases if p.latent == 0]
    assert [p.choice for p in bare.phrases] == [p.choice for p in prompt_phrases]
    assert [p.tokens for p in bare.phrases] == [p.tokens for p in prompt_phrases]


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("mode", ["raw", "few_shot"])
def test_pmi_of_a_template_without_words_of_its_own_follows_a_line_break(mode, bos):
    style = PromptStyle(mode, {"default": "{question}"}, shots=1)
    main, bare = ask(items(), style=style, pmi=True, bos=bos)[:2]
    assert spelled(bare.prompt) == (BOS if bos else "") + "\n"
    prompt_phrases = [p for p in main.phrases if p.latent == 0]
    assert [p.tokens for p in bare.phrases] == [p.tokens for p in prompt_phrases]


def test_pmi_in_few_shot_has_no_worked_items_before_its_unconditional_prompt():
    bare = ask(items(), style=replace(RAW, mode="few_shot", shots=2), pmi=True)[1]
    assert (bare.kind, spelled(bare.prompt)) == ("unconditional", f"{BOS}Q: \nA:")


def test_letters_follow_the_worked_items_of_few_shot():
    data, style = items(), replace(RAW, mode="few_shot", shots=2)
    shots = prompt_text(data, "de", 0, style).removesuffix("Q: what is it de0?\nA:")
    assert shots.count("\n\n") == 2
    listed = [q for q in ask(data, style=style, letters=True) if q.kind == "letter"][0]
    assert spelled(listed.prompt) == (
        f"{BOS}{shots}Q: what is it de0?\nA. Biene\nB. Honig\nC. die Stadt\nA:"
    )


def test_sentences_are_prompts_without_phrases():
    data = ParallelItems(
        "s",
        {tag: tuple(Item(f"s{i}", "", f"{tag} {i}", (), -1) for i in range(3)) for tag in WORDS},
        np.arange(3),
    )
    asked = ask(data, letters=True)
    assert len(asked) == 3 and not any(q.phrases for q in asked)


def test_control_language_is_neither_the_prompts_nor_the_pivot():
    assert control_language("es", "en", ["en", "es", "de"]) == "de"
    assert control_language("es", "en", ["en", "es"]) is None


def test_mismatched_partners_are_of_other_clusters_and_used_about_equally():
    clusters = np.repeat(np.arange(20), 2)
    partner = mismatched(clusters)
    assert (clusters[partner] != clusters).all()
    assert np.bincount(partner, minlength=40).max() <= 3
    assert mismatched(np.zeros(3, dtype=int)).tolist() == [-1, -1, -1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=12))
def test_partners_differ_in_cluster_and_right_choice_where_any_item_does(drawn):
    clusters, answers = np.array(drawn).T
    data = replace(yes_or_no(answers.tolist()), clusters=clusters)
    partner, plain = partners(data, clusters, "de", "en"), mismatched(clusters)
    for item in range(len(drawn)):
        fits = np.flatnonzero((clusters != clusters[item]) & (answers != answers[item]))
        assert partner[item] in (fits if len(fits) else [-1])
    assert ("de" in other_partners(data, RAW, "en")) == (not np.array_equal(partner, plain))


def test_partners_of_few_answers_are_used_about_equally_often():
    answers = np.arange(60) % 2
    assert len(set(mismatched(np.arange(60), [answers]))) >= 50


def with_question(text: str, language: str) -> ParallelItems:
    """The items, with a text in place of the second question of a language."""
    asked = items()
    changed = list(asked.items[language])
    changed[1] = replace(changed[1], question=text)
    return replace(asked, items={**asked.items, language: tuple(changed)})


@pytest.mark.parametrize("spelled", ["<bos>", "<eos>"])
def test_an_item_that_spells_a_special_token_is_named_with_its_language(spelled: str) -> None:
    asked = with_question(f"What does {spelled} mean in HTML?", "de")
    item_id = asked.item_ids[1]
    message = rf'item "{item_id}" \(de\): spells "{spelled}", a special token .*exclude'
    with pytest.raises(InputError, match=message):
        questions(asked, "de", tokens(), RAW, pivot="en", control=None)


def test_a_token_without_embedding_is_named() -> None:
    asked = items()
    message = r'item ".*" \(de\): token ".*" is number \d+, the model has embeddings of 10:'
    with pytest.raises(InputError, match=message):
        questions(asked, "de", tokens(), RAW, pivot="en", control=None, vocabulary=10)
    questions(asked, "de", tokens(), RAW, pivot="en", control=None, vocabulary=384)
