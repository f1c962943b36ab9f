from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

from isogloss.errors import InputError
from isogloss.extraction.capture import capture
from isogloss.extraction.shards import compute_shard
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import choice_scores, predictions
from isogloss.model.packing import collate, lay_out
from isogloss.model.readout import readout_of
from isogloss.model.tiny_models import FAMILIES, tiny_model
from isogloss.questions.items import Item, ParallelItems, folds
from isogloss.questions.prompts import LATENTS, PromptStyle, Tokens, questions
from isogloss.steering import evaluate as evaluation
from isogloss.steering import plan as planning
from isogloss.steering import sweep
from isogloss.steering.design import ALL_ITEMS, Design, evaluation_design, fitting_design
from isogloss.steering.evaluate import Runner, check_unsteered, evaluate, unsteered_pivot
from isogloss.steering.interventions import Intervention, constant_shift, intervention
from isogloss.steering.plan import Label, LanguageConditions, Plan, select_settings
from isogloss.steering.steered_file import SteeredTable
from isogloss.steering.sweep import (
    Condition,
    Outcome,
    RunTimes,
    UnsteeredStates,
    run_times,
    steer,
    steered_scores,
)
from isogloss.steering.vectors import fit_vectors
from isogloss.study.steering_methods import CONTROLS

LANGUAGES = ("en", "de", "zh")
model = cache(tiny_model)


def items(n):
    return ParallelItems(
        "made",
        {
            tag: tuple(
                Item(
                    f"q{i}", "", f"what {tag} {'city ' * (i % 4)}{i}?",
                    (f"{tag}a", f"{tag}a {i}", f"c{i}")[: 3 - i % 2], i % 2,
                )
                for i in range(n)
            )
            for tag in LANGUAGES
        },
        np.arange(n) // 2,
    )  # fmt: skip


@cache
def asked(family, language="de", n=4):
    decoder = model(family)
    style = PromptStyle("raw", {"default": "Q: {question}\nA:"})
    tokens = Tokens(decoder.tokenizer, decoder.start)
    return questions(items(n), language, tokens, style, pivot="en", control=None, latents=False)


def trees_of(family, language="de", n=4):
    return [lay_out(q) for q in asked(family, language, n)]


def scores_of(family, conditions, trees=None, **settings):
    decoder, trees = model(family), trees or trees_of(family)
    return steered_scores(
        decoder, readout_of(decoder), trees, [conditions] * len(trees), **settings
    )


def random_shift(seed=0, size=1.0):
    values = np.random.default_rng(seed).normal(size=32) * size
    return constant_shift(values.astype(np.float32))


def random_map(seed=0):
    rng = np.random.default_rng(seed)
    shift, centre = rng.normal(size=(2, 32))
    return Intervention(shift, centre, rng.normal(size=(3, 32)), rng.normal(size=(3, 32)) * 0.1)


@torch.inference_mode()
def reference(family, layer, change, alpha, positions="prompt"):
    """(question, phrase) scores by a hook of its own, one plain forward a phrase."""
    decoder = model(family)
    scores = np.full((4, 3), np.nan)
    for q, question in enumerate(asked(family)):
        n = len(question.prompt)
        chosen = [n - 1] if positions == "last" else list(range(1, n))

        def altered(states, chosen=chosen):
            states = states.clone()
            for place in chosen:
                h = states[0, place].numpy().astype(np.float64)
                step = change.shift + (change.down @ (h - change.centre)) @ change.up
                states[0, place] = torch.from_numpy(h + alpha * step).float()
            return states

        for phrase in question.phrases:
            ids = torch.tensor([[*question.prompt, *phrase.tokens]])
            if layer == 0:
                handle = decoder.layers[0].register_forward_pre_hook(
                    lambda _, args: (altered(args[0]), *args[1:])
                )
            else:
                handle = decoder.layers[layer - 1].register_forward_hook(
                    lambda _, __, output: altered(output)
                )
            try:
                log_probability = (
                    decoder.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
                )
            finally:
                handle.remove()
            place = torch.arange(n - 1, ids.shape[1] - 1)
            scores[q, phrase.choice] = float(log_probability[place, list(phrase.tokens)].sum())
    return scores


# -- one condition ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_a_shift_is_that_of_a_plain_forward_with_a_hook(family, layer):
    change = random_shift()
    log_probability = scores_of(family, [Condition(layer, change, 0.7)]).log_probability[0]
    expected = reference(family, layer, change, 0.7)
    np.testing.assert_allclose(log_probability, expected, atol=1e-4)
    unsteered = scores_of(family, [Condition(layer, None)]).log_probability[0]
    assert np.nanmax(np.abs(log_probability - unsteered)) > 1e-2


@pytest.mark.parametrize("positions", ["prompt", "last"])
@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_a_low_rank_change_is_that_of_a_plain_forward_with_a_hook(family, positions):
    change = random_map()
    log_probability = scores_of(family, [Condition(2, change, -0.5)], positions=positions)
    expected = reference(family, 2, change, -0.5, positions)
    np.testing.assert_allclose(log_probability.log_probability[0], expected, atol=1e-4)


def test_last_and_prompt_are_not_the_same():
    pair = [
        scores_of("gemma3", [Condition(2, random_shift(), 1.0)], positions=p).log_probability
        for p in ("prompt", "last")
    ]
    assert np.nanmax(np.abs(pair[0] - pair[1])) > 1e-2


@pytest.mark.parametrize(("positions", "expected"), [("prompt", [1, 2, 3]), ("last", [3])])
def test_only_prompt_positions_but_the_first_are_changed(positions, expected, monkeypatch):
    family = "gemma3"
    trees, changed = trees_of(family), []

    def spy(states, condition, chosen):
        new, ratio = steer(states, condition, chosen)
        changed.append((chosen, (new != states).any(-1)))
        return new, ratio

    monkeypatch.setattr(sweep, "steer", spy)
    scores_of(family, [Condition(1, random_shift(), 1.0)], trees, positions=positions, budget=9999)
    ((chosen, differs),) = changed
    assert torch.equal(chosen, differs)
    longest_first = sorted(trees, key=lambda t: -len(t))
    for row, tree in enumerate(longest_first):
        n = tree.n_prompt
        wanted = [n - 1] if expected == [3] else list(range(1, n))
        assert differs[row].nonzero().flatten().tolist() == wanted


def test_alpha_scales_the_change():
    states = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([[False, True, True], [False, True, False]])
    change = random_map()
    full, half = (steer(states, Condition(1, change, a), chosen)[0] for a in (1.0, 0.5))
    torch.testing.assert_close(half - states, (full - states) / 2)
    before = states[chosen].numpy()
    expected = before + change.displacement(before)
    np.testing.assert_allclose(full[chosen], expected, atol=1e-4)
    assert torch.equal(full[~chosen], states[~chosen])


def test_norm_ratio_worked_by_hand():
    states = torch.zeros(1, 3, 2)
    states[0, :, 0] = torch.tensor([100.0, 3.0, 1.0])
    change = constant_shift(np.array([0.0, 4.0], dtype=np.float32))
    chosen = torch.tensor([[False, True, False]])
    assert steer(states, Condition(1, change, 1.0), chosen)[1].tolist() == pytest.approx([5 / 3])
    assert steer(states, Condition(1, None), chosen)[1].tolist() == [1.0]


@pytest.mark.parametrize("positions", ["prompt", "last"])
def test_norm_ratio_is_the_mean_over_steered_states_whatever_the_batches(positions):
    conditions = [Condition(2, random_shift(size=5), 1.0), Condition(3, None)]
    in_one_batch, many = (
        scores_of("llama", conditions, positions=positions, budget=b).mean_norm_ratio()
        for b in (9999, 16)
    )
    np.testing.assert_allclose(in_one_batch, many, rtol=1e-4)
    assert in_one_batch[0] > 1.1 and in_one_batch[1] == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_zero_equals_unsteered_bit_for_bit(dtype, layer):
    decoder = tiny_model("gemma3", dtype=dtype)
    zero = constant_shift(np.zeros(32, dtype=np.float32))
    conditions = [Condition(layer, None), Condition(layer, zero, 1.0)]
    trees = trees_of("gemma3")
    by_tree = [conditions] * len(trees)
    steered = steered_scores(decoder, readout_of(decoder), trees, by_tree, budget=512)
    np.testing.assert_array_equal(steered.log_probability[0], steered.log_probability[1])
    assert np.isfinite(steered.log_probability[0, :, :2]).all()


# -- many conditions -------------------------------------------------------------------------------


def many():
    return [
        Condition(3, random_shift(1), 1.0),
        Condition(0, random_shift(2), 0.5),
        Condition(2, None),
        Condition(3, random_map(), -1.0),
        Condition(4, random_shift(3), 2.0),
        Condition(0, random_shift(2), 1.0),
    ]


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "qwen2", "mistral"])
@pytest.mark.parametrize("budget", [16, 4096])
def test_conditions_at_once_are_those_one_by_one(family, budget):
    together = scores_of(family, many(), budget=budget)
    for i, condition in enumerate(many()):
        alone = scores_of(family, [condition], budget=512)
        np.testing.assert_allclose(together.log_probability[i], alone.log_probability[0], atol=1e-4)
        assert together.norm_ratio[i] == pytest.approx(alone.norm_ratio[0], rel=1e-5)
    assert (together.seconds > 0).all()


@pytest.mark.parametrize("budget", [16, 200, 4096])
def test_each_question_is_steered_under_its_own_conditions(budget):
    """Layers, changes and strengths may all differ between the questions of a batch."""
    decoder, trees = model("gemma3"), trees_of("gemma3")
    by_tree = [many()[i:] + many()[:i] for i in range(len(trees))]
    steered = steered_scores(decoder, readout_of(decoder), trees, by_tree, budget=budget)
    for i, tree in enumerate(trees):
        alone = scores_of("gemma3", by_tree[i], [tree])
        n = alone.log_probability.shape[2]
        np.testing.assert_allclose(
            steered.log_probability[:, i, :n], alone.log_probability[:, 0], atol=1e-4
        )
        np.testing.assert_allclose(steered.norm_ratio[:, i], alone.norm_ratio[:, 0], rtol=1e-4)


def test_the_first_two_conditions_share_a_forward_however_long_the_batch():
    for n_rows, n_conditions in ((1, 2), (1, 15), (3, 15), (7, 5)):
        layers = np.full((n_rows, n_conditions), 2)
        fewest = 2 if n_rows == 1 else sweep.FAN_OUT * n_rows  # a batch leaves that much room
        for most in range(fewest, fewest + 40):
            rows, conditions = next(iter(sweep.cases(layers, most)))
            assert ((conditions == 0).sum(), (conditions == 1).sum()) == (n_rows, n_rows)
            cases = [len(r) for r, _ in sweep.cases(layers, most)]
            assert sum(cases) == n_rows * n_conditions and max(cases) <= most


@pytest.mark.parametrize("kept", [10**9, 30_000, 0])  # bytes: all batches, some, none
def test_lower_states_are_computed_once_and_scores_are_the_same(kept, monkeypatch):
    """Also when the next call has other conditions, and only some of the questions."""
    monkeypatch.setattr(sweep, "KEPT", kept)
    decoder, trees, ran = model("gemma3"), trees_of("gemma3"), []
    unsteered = UnsteeredStates(decoder, [0, 2, 3, 4])

    def counted(decoder, batch, layers):
        ran.append(batch.members)
        return of_blocks(decoder, batch, layers)

    of_blocks = sweep._states_at
    monkeypatch.setattr(sweep, "_states_at", counted)
    first = scores_of("gemma3", many(), trees, unsteered=unsteered, budget=256)
    batches = len(ran)
    some = trees[1:]
    second = scores_of("gemma3", many()[::-1], some, unsteered=unsteered, budget=256)
    again = len(ran) - batches
    assert batches > 1 and (again == 0 if kept == 10**9 else 0 < again)
    monkeypatch.undo()
    plain = scores_of("gemma3", many(), trees, budget=256).log_probability
    np.testing.assert_allclose(first.log_probability, plain, atol=1e-4)
    rest = second.log_probability[::-1]
    np.testing.assert_allclose(rest, plain[:, 1:, : rest.shape[2]], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_unsteered_is_the_stored_score(family):
    decoder, trees = model(family), trees_of(family)
    shard = compute_shard(decoder, trees, range(4), [], 4096)
    stored = np.split(shard["log_probability"], np.cumsum([len(t.target_row) for t in trees])[:-1])
    for layer in (0, 3):
        log_probability = scores_of(family, [Condition(layer, None)]).log_probability[0]
        for i, (tree, values) in enumerate(zip(trees, stored, strict=True)):
            sums = np.bincount(tree.target_phrase, values)
            np.testing.assert_allclose(log_probability[i, : len(sums)], sums, atol=1e-4)
            assert np.isnan(log_probability[i, len(sums) :]).all()


# -- what is chosen --------------------------------------------------------------------------------


def plan(**other):
    return Plan(
        **{
            "methods": ("mean_difference",),
            "layers": (1, 3),
            "depths": (0.25, 0.75),
            "strengths": (0.5, 1.0),
            "controls": CONTROLS,
            "draws": 2,
            "positions": "prompt",
            "score": "token",
        }
        | other
    )


def test_settings_worked_by_hand():
    """Setting 0 is best on fold 0, setting 1 on fold 1, 2 and 3 never: each fold takes the one
    that is best on the other."""
    correct = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    margin = np.zeros((4, 4))
    fold = np.array([0, 0, 1, 1])
    assert select_settings(plan(), margin, correct, fold).tolist() == [[1, 0]]


def test_ties_of_settings_go_to_the_larger_margin_on_the_other_folds():
    correct = np.ones((4, 4), dtype=bool)
    margin = np.array([[9, 9, 0, 0], [0, 0, 3, 3], [0, 0, 2, 2], [1, 1, 0, 0]], dtype=float)
    fold = np.array([0, 0, 1, 1])
    assert select_settings(plan(), margin, correct, fold).tolist() == [[1, 0]]


def test_each_method_chooses_among_its_own_settings():
    two = plan(methods=("mean_difference", "shared_projection"))
    correct = np.zeros((8, 4), dtype=bool)
    correct[2], correct[5] = True, True
    chosen = select_settings(two, np.zeros((8, 4)), correct, np.array([0, 1, 0, 1]))
    assert chosen.tolist() == [[2, 2], [5, 5]]
    assert two.grid()[2] == ("mean_difference", 3, 0.5)
    assert two.grid()[5] == ("shared_projection", 1, 1.0)


def test_vectors_come_from_the_positions_that_are_steered():
    assert plan().pooling == "prompt_mean" and plan(positions="last").pooling == "prompt_last"


def test_cross_fitting_steers_each_item_with_the_vectors_of_its_fold():
    settings = {"folds": 5, "seed": 0, "split": None}
    clusters = np.arange(40) // 2
    fitted_items, fold = fitting_design(clusters, settings)
    here = evaluation_design(clusters, settings, fitted_here=True)
    assert fitted_items.all() and np.array_equal(here.folds, fold)
    assert np.array_equal(here.vector_folds, fold) and here.reported == (0, 1, 2, 3, 4)
    elsewhere = evaluation_design(clusters, settings, fitted_here=False)
    assert (elsewhere.vector_folds == ALL_ITEMS).all() and np.array_equal(elsewhere.folds, fold)


def test_separate_sets_are_fitted_selected_and_evaluated_on_different_items():
    settings = {"folds": 5, "seed": 0, "split": {"fit": 0.5, "select": 0.25, "test": 0.25}}
    clusters = np.arange(40) // 2
    fitted_items, fold = fitting_design(clusters, settings)
    here = evaluation_design(clusters, settings, fitted_here=True)
    assert fold is None and fitted_items.sum() == 20 and not fitted_items[here.items].any()
    assert (here.vector_folds == ALL_ITEMS).all() and here.reported == (1,)
    assert np.bincount(here.folds).tolist() == [10, 10]
    elsewhere = evaluation_design(clusters, settings, fitted_here=False)
    assert len(elsewhere.items) == 40  # what would be fitted on is selected on
    assert np.array_equal(elsewhere.items[elsewhere.evaluated], here.items[here.evaluated])


# -- from the vectors to the steered file ----------------------------------------------------------

N = 8


@cache
def fitted(family="gemma3", methods=("mean_difference", "shared_projection"), moved=None):
    """Vectors and folds of 8 items; `moved` adds 1e3 to the states of one fold."""
    decoder, pooled = model(family), []
    fold = folds(items(N).clusters, 2)
    for tag in LANGUAGES:
        trees = trees_of(family, tag, N)
        batch = collate(trees, range(N))
        pooled.append(capture(decoder, batch, trees, []))
    stacked = {
        name: np.stack([getattr(c, name).numpy() for c in pooled]) for name in ("mean", "last")
    }
    if moved is not None:
        for values in stacked.values():
            values[1:, fold == moved] += 1e3  # all but the pivot's
    states = [
        ParallelStates(
            LANGUAGES, items(N).item_ids, items(N).clusters, np.linspace(0, 1, 5),
            np.ones((3, N)), lambda layer, v=values: v[:, :, layer],
        )
        for values in (stacked["mean"], stacked["last"])
    ]  # fmt: skip
    return fit_vectors(*states, fold, "en", (1, 3), methods, draws=2), fold


@cache
def stored_scores(language="de", family="gemma3"):
    """What `open_scores` gives for one language."""
    decoder, trees = model(family), trees_of(family, language, N)
    shard = compute_shard(decoder, trees, range(N), [], 4096)
    sums = np.full((N, 3), np.nan)
    ends = np.cumsum([len(t.target_row) for t in trees])[:-1]
    counts = np.zeros((N, 3), dtype=int)
    for i, values in enumerate(np.split(shard["log_probability"], ends)):
        scores = np.bincount(trees[i].target_phrase, values)
        sums[i, : len(scores)] = scores
        counts[i, : len(scores)] = np.bincount(trees[i].target_phrase)
    data = items(N)
    per_choice, per_item = ("item", "choice"), ("item",)
    return xr.Dataset(
        {
            "sum": (per_choice, sums),
            "n_tokens": (per_choice, counts),
            "n_characters": (per_choice, np.maximum(counts, 1)),
            "n_bytes": (per_choice, np.maximum(counts, 1)),
            "answer": (per_item, data.answers),
            "n_choices": (per_item, data.n_choices),
            "cluster": (per_item, data.clusters),
        },
        coords={"item": list(data.item_ids)},
    )


def runner(budget=512):
    decoder = model("gemma3")
    return Runner(decoder, readout_of(decoder), budget)


def crossed(fold, vector_folds=None):
    """The design of cross-fitting."""
    vectors = fold if vector_folds is None else vector_folds
    return Design(np.arange(len(fold)), fold, vectors, tuple(np.unique(fold).tolist()))


def pivot_of(budget=512, **other):
    return unsteered_pivot(runner(budget), plan(**other), trees_of("gemma3", "en", N))


def evaluated(vectors=None, vector_folds=None, budget=512, **other):
    fitted_vectors, fold = fitted()
    return evaluate(
        runner(budget), fitted_vectors if vectors is None else vectors,
        plan(methods=("mean_difference", "shared_projection"), **other), "de",
        trees_of("gemma3", "de", N), pivot_of(budget, **other), stored_scores(),
        crossed(fold, vector_folds),
    )  # fmt: skip


def rows(evaluation, role, method=None):
    keep = evaluation.role.values == role
    if method is not None:
        keep &= evaluation.method.values == method
    return evaluation.isel(condition=np.flatnonzero(keep))


def test_unsteered_and_zero_are_the_stored_scores():
    evaluation = evaluated()
    stored = stored_scores()["sum"].values
    for role, method in (("unsteered", "unsteered"), ("control", "zero")):
        steered = rows(evaluation, role, method).log_probability
        assert steered.sizes["condition"] == 1
        np.testing.assert_allclose(steered[0], stored, atol=1e-4)
    assert evaluation.attrs["zero_same_batch_difference"] == 0
    pivot = rows(evaluation, "unsteered", "pivot_unsteered").log_probability[0]
    np.testing.assert_allclose(pivot, stored_scores("en")["sum"], atol=1e-4)


def test_every_condition_is_there_for_every_item():
    evaluation = evaluated()
    counts = {role: int((evaluation.role == role).sum()) for role in set(evaluation.role.values)}
    # 2 methods x 2 layers x 2 strengths; random twice, 6 other controls, pivot_harm
    assert counts == {"unsteered": 2, "grid": 8, "selected": 2, "control": 9}
    exists = np.arange(3) < items(N).n_choices[:, None]
    assert np.array_equal(
        np.isfinite(evaluation.log_probability), np.broadcast_to(exists, (21, N, 3))
    )
    assert sorted(rows(evaluation, "control", "random").draw.values) == [0, 1]
    assert evaluation.attrs["language"] == "de" and evaluation.attrs["pivot"] == "en"
    assert evaluation.attrs["score"] == "token"
    for variable in evaluation.data_vars.values():
        assert {"long_name", "units"} <= set(variable.attrs)


def test_the_selected_rows_are_those_of_the_setting_that_other_folds_choose():
    evaluation, (_, fold) = evaluated(), fitted()
    for m, method in enumerate(("mean_difference", "shared_projection")):
        grid, selected = rows(evaluation, "grid", method), rows(evaluation, "selected", method)
        counts = {
            name: (("language", "item", "choice"),
                   np.broadcast_to(stored_scores()[name], grid.log_probability.shape))
            for name in ("n_tokens", "n_characters", "n_bytes")
        }  # fmt: skip
        sums = (("language", "item", "choice"), grid.log_probability.values)
        scores = xr.Dataset({"sum": sums, **counts}).assign(n_choices=("item", items(N).n_choices))
        correct = predictions(choice_scores(scores, "token")) == items(N).answers
        for k in range(2):
            layer, alpha = evaluation.selected_layer[m, k], evaluation.selected_alpha[m, k]
            (at,) = np.flatnonzero((grid.layer == layer) & (grid.alpha == alpha))
            assert correct[at, fold != k].mean() == correct[:, fold != k].mean(1).max()
            of_fold = grid.log_probability[at].values[fold == k]
            np.testing.assert_array_equal(selected.log_probability[0].values[fold == k], of_fold)


def test_the_selected_norm_is_that_of_the_items_evaluated_in_each_fold():
    """Folds that chose one setting share its grid condition, but not their vectors' norms."""
    design = replace(crossed(np.arange(4) // 2), reported=(1,))
    settings = plan(layers=(3,), depths=(0.75,), strengths=(1.0,))
    table = SteeredTable(settings, stored_scores().isel(item=slice(4)), design)
    ratio = np.array([[2.0, 2.0, 6.0, 6.0]])
    scores = stored_scores()["sum"].values[None, :4]
    outcome = Outcome(scores, ratio, np.ones(4, int), np.ones(1))
    grid = [Label("grid", *setting) for setting in settings.grid()]
    table.add(grid, outcome, np.arange(4))
    made = table.dataset(np.zeros((1, 2), int), RunTimes(1.0, [0.0]), 1.0)
    assert rows(made, "selected").norm_ratio.values.tolist() == [6.0]
    assert rows(made, "grid").norm_ratio.values.tolist() == [4.0]


def test_an_item_is_never_steered_with_what_its_own_fold_was_fitted_on(monkeypatch):
    vectors, fold = fitted()
    fold_of_change, used = {}, []

    def remembering(make):
        def spy(*args, **where):
            change = make(*args, **where)
            fold_of_change[id(change)] = (where["fold"], change)  # kept, so that its id stays its
            return change

        return spy

    def spy_scores(decoder, readout, trees, conditions, **settings):
        used.append(
            [
                {fold_of_change[id(c.change)][0] for c in conditions_of_item if c.change}
                for conditions_of_item in conditions
            ]
        )
        return steered_scores(decoder, readout, trees, conditions, **settings)

    for name in ("intervention", "control"):
        monkeypatch.setattr(planning, name, remembering(getattr(planning, name)))
    pivot = pivot_of()
    monkeypatch.setattr(evaluation, "steered_scores", spy_scores)
    evaluate(
        runner(), vectors, plan(), "de", trees_of("gemma3", "de", N), pivot, stored_scores(),
        crossed(fold),
    )  # fmt: skip
    assert len(used) == 3  # the grid, the controls, the pivot
    for by_tree in used:  # vectors of fold k are fitted without it
        assert by_tree == [{k} for k in fold]
    clusters = items(N).clusters
    assert not set(clusters[fold == 0]) & set(clusters[fold == 1])


@pytest.mark.parametrize("moved", [0, 1])
def test_states_of_a_fold_do_not_reach_that_folds_own_scores(moved):
    """Moving the states that one fold gives changes what other items are steered with, only."""
    _, fold = fitted()
    before, after = evaluated(), evaluated(fitted(moved=moved)[0])
    change = np.abs(
        rows(before, "grid").log_probability.values - rows(after, "grid").log_probability.values
    )
    of_fold, other = change[:, fold == moved], change[:, fold != moved]
    assert np.nanmax(of_fold) == 0 and (np.nanmax(other, axis=(1, 2)) > 1e-2).all()


def test_vectors_of_another_dataset_are_those_fitted_on_all_its_items():
    vectors, fold = fitted()
    evaluation = evaluated(vector_folds=np.full(N, ALL_ITEMS))
    change = intervention(vectors, "mean_difference", language="de", fold=-1, layer=3)
    expected = scores_of("gemma3", [Condition(3, change, 1.0)], trees_of("gemma3", "de", N))
    grid = rows(evaluation, "grid", "mean_difference")
    (at,) = np.flatnonzero((grid.layer == 3) & (grid.alpha == 1.0))
    np.testing.assert_allclose(grid.log_probability[at], expected.log_probability[0], atol=1e-4)


def test_controls_are_of_the_first_method_and_zero_comes_first():
    vectors, _ = fitted()
    tried = plan(controls=("random", "reverse", "zero"))
    made = LanguageConditions(vectors, tried, "de").controls_at(0, 3)
    assert [(name, draw) for name, draw, _ in made] == [
        ("zero", 0), ("random", 0), ("random", 1), ("reverse", 0),
    ]  # fmt: skip
    method_change = intervention(vectors, "mean_difference", language="de", fold=0, layer=3)
    np.testing.assert_array_equal(made[-1][2].shift, -method_change.shift)
    norms = [np.linalg.norm(change.shift) for _, _, change in made]
    assert norms[0] == 0
    np.testing.assert_allclose(norms[1:], np.linalg.norm(method_change.shift), rtol=1e-5)


def test_controls_that_search_are_given_what_other_folds_choose():
    names = ("random", "zero", "reverse", "patch")
    evaluation, (_, fold) = evaluated(controls_search=True, controls=names), fitted()
    plain = evaluated(controls=names)
    # 2 draws and reverse, each at 2 layers x 2 strengths.
    assert rows(evaluation, "control_grid").sizes["condition"] == 3 * 4
    assert rows(plain, "control_grid").sizes["condition"] == 0
    for draw in range(2):
        grid = rows(evaluation, "control_grid", "random")
        grid = grid.isel(condition=grid.draw.values == draw)
        selected = rows(evaluation, "control", "random").isel(condition=draw)
        assert selected.draw == draw
        by_token = grid.log_probability.values / stored_scores()["n_tokens"].values
        right = np.nanargmax(np.where(np.isfinite(by_token), by_token, -np.inf), 2)
        right = right == items(N).answers
        for k in range(2):
            best = right[:, fold != k].mean(1)
            taken = [
                i for i in range(4)
                if np.array_equal(
                    grid.log_probability[i].values[fold == k],
                    selected.log_probability.values[fold == k],
                    equal_nan=True,
                )
            ]  # fmt: skip
            assert taken and best[taken[0]] == best.max()
    for name in ("zero", "patch"):
        np.testing.assert_allclose(
            rows(evaluation, "control", name).log_probability,
            rows(plain, "control", name).log_probability,
            atol=1e-4,
        )
    assert rows(evaluation, "control", "reverse").cosine.values == pytest.approx(-1)
    assert (evaluation.attrs["controls_search"], plain.attrs["controls_search"]) == (1, 0)


def test_without_controls_the_grid_the_selection_and_the_harm_are_left():
    evaluation = evaluated(controls=())
    assert rows(evaluation, "control").method.values.tolist() == ["pivot_harm"]
    assert evaluation.attrs["zero_same_batch_difference"] == 0


def test_run_times_norms_and_cosines_are_recorded():
    evaluation = evaluated()
    assert rows(evaluation, "control", "reverse").cosine.values == pytest.approx(-1)
    assert rows(evaluation, "control", "shuffled_orthogonal").cosine.values == pytest.approx(
        0, abs=1e-5
    )
    assert 0 < abs(rows(evaluation, "control", "shuffled_language").cosine.values[0]) < 1
    for role in ("unsteered", "grid", "selected"):
        assert np.isnan(rows(evaluation, role).cosine).all()
    assert (evaluation.seconds > 0).all() and evaluation.forward_seconds > 0
    assert evaluation.evaluation_seconds > evaluation.seconds.max()
    assert rows(evaluation, "unsteered").norm_ratio.values.tolist() == pytest.approx([1, 1])
    assert rows(evaluation, "control", "zero").norm_ratio.values == pytest.approx(1)
    assert (np.abs(rows(evaluation, "grid").norm_ratio - 1) > 1e-3).any()


def test_the_overhead_is_that_of_the_positions_steered(monkeypatch):
    steered_at = []

    def spy(states, condition, chosen):
        steered_at.append(chosen.sum(1).tolist())
        return steer(states, condition, chosen)

    monkeypatch.setattr(sweep, "steer", spy)
    vectors, _ = fitted()
    for positions in ("last", "prompt"):
        timed = LanguageConditions(vectors, plan(positions=positions), "de").timed(0)
        run_times(model("gemma3"), trees_of("gemma3"), timed, positions, 64)
        counts = {n for of_rows in steered_at for n in of_rows}
        assert (counts == {1}) == (positions == "last")
        steered_at.clear()


def test_steering_asks_for_the_prompts_own_choices():
    for question in asked("gemma3"):
        assert {LATENTS[p.latent] for p in question.phrases} == {"prompt"}


def test_with_separate_sets_only_the_test_set_is_reported_and_only_the_others_choose():
    """Fold 1 is evaluated with what fold 0 selects; the items of fold 0 are not told."""
    vectors, fold = fitted()
    evaluation = evaluate(
        runner(), vectors, plan(), "de", trees_of("gemma3", "de", N), pivot_of(), stored_scores(),
        Design(np.arange(N), fold, fold, reported=(1,)),
    )  # fmt: skip
    assert (evaluation.fold == 1).all() and evaluation.sizes["item"] == (fold == 1).sum()
    whole = evaluated()
    for role in ("selected", "control"):
        steered = rows(whole, role, "mean_difference" if role == "selected" else "reverse")
        np.testing.assert_allclose(
            rows(evaluation, role, steered.method.item()).log_probability,
            steered.log_probability.isel(item=fold == 1),
            atol=1e-4,
        )


def test_unsteered_rows_that_are_not_the_stored_ones_are_refused_in_float32():
    evaluation, stored = evaluated(), stored_scores()
    check_unsteered(evaluation, stored, "torch.float32")
    off = stored.assign(sum=stored["sum"] + 0.01)
    with pytest.raises(InputError, match="unsteered scores differ"):
        check_unsteered(evaluation, off, "torch.float32")
    check_unsteered(evaluation, off, "torch.bfloat16")


def test_questions_that_vectors_were_fitted_on_are_refused_before_the_model(monkeypatch):
    """One path under two names: digests tell, names do not."""
    dataset = {"source": "jsonl", "path": "data/everyday"}
    spec = {
        "dataset": dataset, "all_languages": ["en", "de"], "name": "everyday", "fitted": "again",
        "vectors": {"extraction": {"dataset": dataset, "languages": ["en", "es"]}},
    }  # fmt: skip
    monkeypatch.setattr(evaluation, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(InputError, match="everyday: 120 of 120 questions .* also in again"):
        next(
            evaluation.steered_files(
                spec, {}, xr.Dataset(), ["de"], cache=None, device="cpu", budget=512
            )
        )


@torch.inference_mode()
def patched(layer):
    """(question, phrase) scores where a hook puts the pivot's last-prompt state in place."""
    decoder = model("gemma3")
    scores = np.full((N, 3), np.nan)
    for q, (here, there) in enumerate(
        zip(asked("gemma3", "de", N), asked("gemma3", "en", N), strict=True)
    ):
        ids = torch.tensor([list(there.prompt)])
        output = decoder.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        source, end = output.hidden_states[layer][0, -1], len(here.prompt) - 1

        def put(states, source=source, end=end):
            states = states.clone()
            states[0, end] = source
            return states

        for phrase in here.phrases:
            ids = torch.tensor([[*here.prompt, *phrase.tokens]])
            handle = decoder.layers[layer - 1].register_forward_hook(lambda _, __, x, f=put: f(x))
            try:
                logits = decoder.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            finally:
                handle.remove()
            place = torch.arange(end, ids.shape[1] - 1)
            scores[q, phrase.choice] = float(logits[place, list(phrase.tokens)].sum())
    return scores


def test_the_oracle_puts_the_pivots_state_of_the_same_question_at_the_prompts_end():
    evaluation, (_, fold) = evaluated(), fitted()
    patch = rows(evaluation, "control", "patch")
    assert patch.sizes["condition"] == 1
    for k in range(2):
        layer = int(evaluation.selected_layer[0, k])
        expected = patched(layer)[fold == k]
        np.testing.assert_allclose(patch.log_probability[0][fold == k], expected, atol=1e-4)


def test_items_that_are_worked_for_one_another_are_evaluated_in_one_fold():
    prompt = {"mode": "few_shot", "templates": {"default": "{question}"}, "truncate": False}
    spec = {"fitted": "other", "name": "made", "folds": {"folds": 5, "seed": 0, "split": None}}
    made = replace(items(10), clusters=np.arange(10))
    design = evaluation.design_of(made, spec | {"prompt": prompt | {"shots": 2}})
    assert len(set(design.folds[:3])) == 1
    assert len(set(design.folds)) == 5
