"""Accuracy, consistency and transfer: hand-worked examples, other tools, planted effects."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.stats import pearsonr, rankdata, spearmanr
from simulated_worlds import Answers, clusters_of, scores_dataset
from sklearn.metrics import cohen_kappa_score

from isogloss.errors import InputError
from isogloss.measures import behaviour as b
from isogloss.measures import language_pairs
from isogloss.measures import transfer as t
from isogloss.measures.language_pairs import SCOPES, pair_means, pair_scopes
from isogloss.measures.statistics import Jackknife

LANGUAGES = [f"l{i}" for i in range(5)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_scores(rng, n_languages=4, n_items=60, width=4, ragged=False):
    values = rng.normal(size=(n_languages, n_items, width))
    n_choices = rng.integers(2, width + 1, n_items) if ragged else np.full(n_items, width)
    return values, n_choices, rng.integers(0, 2, n_items)


def predictions_of(right, answers, distractors):
    """Predictions (language, item) that are right, or else the given distractor."""
    return np.where(right, answers, (answers + distractors) % 4)


# Scores, ranks and predictions


def test_score_modes_divide_by_their_length(rng):
    values, n_choices, answers = random_scores(rng, 2, 5)
    lengths = rng.integers(1, 6, values.shape)
    data = scores_dataset(values, answers, lengths=lengths)
    np.testing.assert_allclose(b.choice_scores(data, "sum"), values * lengths)
    np.testing.assert_allclose(b.choice_scores(data, "token"), values)
    np.testing.assert_allclose(b.choice_scores(data, "char"), values / 2)
    np.testing.assert_allclose(b.choice_scores(data, "byte"), values / 3)
    data["pmi"] = data["sum"] + 1
    np.testing.assert_allclose(b.choice_scores(data, "pmi"), values * lengths + 1)


def test_scores_that_cannot_be_had_are_refused_in_one_line(rng):
    values, n_choices, answers = random_scores(rng, 2, 5)
    data = scores_dataset(values, answers)
    with pytest.raises(InputError, match="'best' is unknown: use one of sum, token"):
        b.choice_scores(data, "best")
    with pytest.raises(InputError, match="'pmi' needs 'pmi', which was not extracted"):
        b.choice_scores(data, "pmi")
    data["sum"][1, 3, 2] = np.nan
    with pytest.raises(InputError, match=r"item 'i3' \(l1\) has no score for choice 2"):
        b.choice_scores(data)


def test_ties_within_tolerance_share_ranks_and_give_the_lower_index():
    scores = np.array([[-2.0, -1.00005, -1.0, -3.0], [-1.0, -1.0, -1.0, np.nan]])
    n_choices = np.array([4, 3])
    np.testing.assert_array_equal(
        b.ranks(scores, n_choices), [[3, 1.5, 1.5, 4], [np.nan, np.nan, np.nan, np.nan]]
    )
    assert b.predictions(scores).tolist() == [1, 0]


def test_impossible_choices_are_ranked_last_and_tied():
    scores = np.array([[-np.inf, -1.0, -np.inf, -2.0]])
    np.testing.assert_array_equal(b.ranks(scores, np.array([4])), [[3.5, 1, 3.5, 2]])


@given(
    scores=arrays.arrays(float, (5, 4), elements=st.integers(-3, 3).map(float)),
    n_choices=arrays.arrays(int, 5, elements=st.integers(2, 4)),
)
@settings(max_examples=60, deadline=None)
def test_ranks_are_scipys_average_ranks(scores, n_choices):
    ranked = b.ranks(scores, n_choices)
    for row, n, row_ranks in zip(scores, n_choices, ranked, strict=True):
        expected = rankdata(-row[:n])
        if len(set(row[:n])) == 1:
            expected = np.full(n, np.nan)
        np.testing.assert_array_equal(row_ranks[:n], expected)
        assert np.isnan(row_ranks[n:]).all()


@given(scores=arrays.arrays(float, (6, 4), elements=st.floats(-50, 50)), shift=st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_ranks_do_not_change_when_an_item_gets_likelier(scores, shift):
    scores = np.round(scores, 2)
    n_choices = np.full(6, 4)
    np.testing.assert_array_equal(
        b.ranks(scores, n_choices), b.ranks(scores + round(shift, 2), n_choices)
    )


# Consistency


def mean_consistency(ranked):
    return np.nanmean(b.item_consistency(ranked), axis=0)


def test_consistency_by_hand():
    # Ranks 1234 against 2134: d^2 = 1 + 1, rho = 1 - 6 * 2 / (4 * 15) = 0.8; against 4321: -1.
    first = np.array([[-1.0, -2, -3, -4], [-1.0, -2, -3, -4]])
    second = np.array([[-2.0, -1, -3, -4], [-4.0, -3, -2, -1]])
    ranked = b.ranks(np.stack([first, second]), np.array([4, 4]))
    assert mean_consistency(ranked)[0, 1] == pytest.approx((0.8 - 1) / 2)
    np.testing.assert_allclose(np.diag(mean_consistency(ranked)), 1)


def test_item_consistency_is_spearman_with_ties_and_ragged_choices(rng):
    values, n_choices, _ = random_scores(rng, 2, 40, ragged=True)
    values = np.round(values)
    rho = b.item_consistency(b.ranks(values, n_choices))[:, 0, 1]
    for item, n in enumerate(n_choices):
        first, two = values[:, item, :n]
        tied = np.ptp(first) == 0 or np.ptp(two) == 0
        expected = np.nan if tied else spearmanr(first, two).statistic
        assert rho[item] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(rho).any() and np.isfinite(rho).any()


def test_concatenated_equals_per_item_with_equal_choices_and_no_ties(rng):
    values, n_choices, _ = random_scores(rng, 5, 30)
    ranked = b.ranks(values, n_choices)
    per_item = mean_consistency(ranked)
    np.testing.assert_allclose(concatenated(ranked), per_item)


def concatenated(ranked):
    """`concatenated_consistency` on the data alone."""
    return b.concatenated_consistency(ranked, Jackknife.of(np.arange(ranked.shape[1])))[0]


def test_concatenated_is_the_correlation_of_rank_vectors_centred_by_item(rng):
    values, n_choices, _ = random_scores(rng, 2, 30, ragged=True)
    ranked = b.ranks(np.round(values), n_choices)
    both = np.arange(4) < n_choices[:, None]
    first, second = np.nan_to_num(ranked - (n_choices[:, None] + 1) / 2)  # tied: all the average
    assert concatenated(ranked)[0, 1] == pytest.approx(pearsonr(first[both], second[both])[0])


def test_concatenated_is_nothing_for_random_rankings_of_unequal_length(rng):
    n_choices = np.tile(np.arange(2, 12), 6)
    drawn = []
    for _ in range(60):
        ranked = b.ranks(rng.normal(size=(2, 60, 11)), n_choices)
        drawn.append(concatenated(ranked)[0, 1])
        # The plain Spearman of the rank vectors: long items have large ranks in both languages.
        plain = [r[np.isfinite(r)] for r in ranked]
        assert spearmanr(*plain).statistic > 0.1
    assert abs(np.mean(drawn)) < 3 * np.std(drawn) / np.sqrt(60)


def test_concatenated_does_not_depend_on_the_direction_of_ranks(rng):
    values = rng.normal(size=(2, 60, 11))
    values[1] += values[0]
    n_choices = np.tile(np.arange(2, 12), 6)
    best_first, worst_first = (concatenated(b.ranks(v, n_choices))[0, 1] for v in (values, -values))
    assert best_first == pytest.approx(worst_first)
    assert best_first > 0.4


def test_concatenated_has_an_interval(study):
    _, result = study
    low, high = result.consistency_concatenated_low, result.consistency_concatenated_high
    assert low[0, 2] < result.consistency_concatenated[0, 2] < high[0, 2]


def test_shuffled_baseline_is_the_mean_over_pairings_of_other_clusters(rng):
    values, n_choices, _ = random_scores(rng, 2, 14, ragged=True)
    values[0, 2] = 0  # all tied: no rank
    values += np.array([0.8, 0, 0, 0])  # a position that every language prefers
    clusters = np.repeat(np.arange(7), 2)
    ranked = b.ranks(values, n_choices)
    by_number, weights = [], []
    for n in np.unique(n_choices):
        group = np.flatnonzero(n_choices == n)
        rho = [
            b.rank_correlation(ranked[0, i], ranked[1, j])
            for i in group
            for j in group
            if clusters[i] != clusters[j]
        ]
        by_number.append(np.nanmean(rho))
        weights.append(np.isfinite(ranked[:, group, 0]).all(axis=0).sum())
    baseline = b.shuffled_consistency(ranked, n_choices, clusters)
    assert baseline[0, 1] == pytest.approx(np.average(by_number, weights=weights))


def test_shuffled_baseline_shows_position_bias_that_consistency_does_not_tell_apart(rng):
    values, n_choices, _ = random_scores(rng, 2, 200)
    values += np.array([6.0, 4, 2, 0])
    ranked = b.ranks(values, n_choices)
    consistent = mean_consistency(ranked)[0, 1]
    assert consistent > 0.5
    shuffled = b.shuffled_consistency(ranked, n_choices, np.arange(200))[0, 1]
    assert shuffled == pytest.approx(consistent, abs=0.05)


def test_kappa_is_sklearns(rng):
    values, n_choices, answers = random_scores(rng, 3, 50)
    values[1] += values[0]
    result = b.behaviour(scores_dataset(values, answers, n_choices))
    expected = cohen_kappa_score(*result.prediction.values[:2])
    assert result.kappa[0, 1] == pytest.approx(expected)
    assert expected > 0.1


def test_kappa_of_a_language_that_always_takes_one_choice_is_unknown(rng):
    """It agrees as often as by chance whatever the other does: no kappa of 0 that looks certain."""
    values = rng.normal(size=(2, 60, 4))
    values[0, :, 2] = 9
    result = b.behaviour(scores_dataset(values, rng.integers(0, 4, 60)))
    assert np.isnan(result.kappa[0, 1]) and np.isnan(result.kappa_low[0, 1])


def test_a_lift_with_nothing_to_compare_is_unknown(rng):
    """The first language is right on all items, the second wrong on all, the third on half."""
    right = np.array([np.ones(60, bool), np.zeros(60, bool), np.arange(60) % 2 == 0])
    answers = rng.integers(0, 4, 60)
    chosen = predictions_of(right, answers, rng.integers(1, 4, (3, 60)))
    values = np.where(np.arange(4) == chosen[..., None], 9.0, rng.normal(size=(3, 60, 4)))
    result = b.behaviour(scores_dataset(values, answers))
    positive, negative = (result.sel(sign=sign) for sign in ("positive", "negative"))
    for end in ("", "_low"):
        assert np.isnan(positive[f"lift_independent{end}"]).all()
        assert np.isnan(result[f"lift_both_wrong_independent{end}"]).all()
        assert np.isnan(positive[f"mean_lift_independent{end}"]).all()
    assert np.isfinite(positive.transfer[0, 1:]).all()
    # Which wrong choice two languages share can be compared where one is always wrong.
    assert np.isfinite(negative.lift_independent[1, 2]) and np.isnan(
        negative.lift_independent[2, 0]
    )


def test_two_choices_make_rho_a_sign_and_kappa_tells_agreement_from_habit(rng):
    # Both languages nearly always take choice 0: consistent, but not about the questions.
    values = rng.normal(size=(2, 400, 2)) + np.array([2.5, 0])
    result = b.behaviour(scores_dataset(values, rng.integers(0, 2, 400)))
    assert result.consistency[0, 1] > 0.7
    assert abs(result.kappa[0, 1]) < 0.15


# Transfer


def transfer_matrices(predicted, answers, n_choices):
    """`transfers` on the data alone: matrices (language, language)."""
    only = Jackknife.of(np.arange(len(answers)))
    transfer = t.transfers(predicted, answers, n_choices, only)
    return {
        kind: replace(
            of,
            observed=of.observed[0],
            independent=of.independent[0],
            difficulty=of.difficulty[0],
            popularity=None if of.popularity is None else of.popularity[0],
        )
        for kind, of in transfer.items()
    }


def test_rank_c_by_hand():
    # Best to worst: 0 1 2 and 0 2 1; the j best have 1 of 1, 1 of 2, 3 of 3 choices in common.
    scores = np.array([[[3.0, 2, 1, np.nan]], [[3.0, 1, 2, np.nan]]])
    weights = np.exp([3.0, 2, 1]) / np.exp([3.0, 2, 1]).sum()
    rank_c = b.item_rank_c(scores, np.array([3]))[0]
    assert rank_c[0, 1] == rank_c[1, 0] == pytest.approx(weights @ [1, 1 / 2, 1])
    assert np.diag(rank_c) == pytest.approx(1)


def test_transfer_by_hand():
    # 24 items. l0 is right on 0-11, l1 on 0-5 and 18-23. l0's wrong items are 12-23; of them l1 is
    # wrong on 12-17, and takes l0's wrong choice on 12-15.
    right = np.zeros((2, 24), dtype=bool)
    right[0, :12] = right[1, :6] = right[1, 18:] = True
    distractors = np.ones((2, 24), dtype=int)
    distractors[1, 16:] = 2
    answers = np.arange(24) % 4
    transfer = transfer_matrices(
        predictions_of(right, answers, distractors), answers, np.full(24, 4)
    )
    assert transfer["positive"].observed[0, 1] == pytest.approx(6 / 12)
    assert transfer["negative"].observed[0, 1] == pytest.approx(4 / 12)
    assert transfer["both_wrong"].observed[0, 1] == pytest.approx(6 / 12)
    assert transfer["positive"].independent[0, 1] == pytest.approx(12 / 24)
    assert transfer["negative"].independent[0, 1] == pytest.approx(12 / 24 / 3)
    assert transfer["both_wrong"].independent[0, 1] == pytest.approx(12 / 24)
    assert np.isnan(transfer["positive"].difficulty).all()  # no other language to tell it


def test_transfer_is_directed():
    right = np.zeros((2, 40), dtype=bool)
    right[0, :10], right[1, :30] = True, True
    transfer = transfer_matrices(np.where(right, 0, 1), np.zeros(40, int), np.full(40, 4))
    assert transfer["positive"].observed[0, 1] == 1
    assert transfer["positive"].observed[1, 0] == pytest.approx(1 / 3)


def test_transfer_is_nan_under_ten_items_in_the_denominator():
    right = np.zeros((3, 40), dtype=bool)
    right[0, :9], right[1, :10], right[2, :31] = True, True, True
    transfer = transfer_matrices(np.where(right, 0, 1), np.zeros(40, int), np.full(40, 4))
    for values in (transfer["positive"].observed, transfer["positive"].independent):
        assert np.isnan(values[0]).all() and np.isfinite(values[1, 2])
    assert np.isnan(transfer["negative"].observed[2]).all()  # 9 wrong
    assert np.isfinite(transfer["negative"].popularity[0, 1])


@given(
    predicted=arrays.arrays(int, (3, 30), elements=st.integers(0, 3)),
    answers=arrays.arrays(int, 30, elements=st.integers(0, 3)),
)
@settings(max_examples=40, deadline=None)
def test_transfer_is_a_share_and_same_wrong_never_exceeds_both_wrong(predicted, answers):
    transfer = transfer_matrices(predicted, answers, np.full(30, 4))
    for kind in transfer.values():
        known = kind.observed[np.isfinite(kind.observed)]
        assert ((known >= 0) & (known <= 1 + 1e-12)).all()
        diagonal = np.diag(kind.observed)
        np.testing.assert_allclose(diagonal[np.isfinite(diagonal)], 1)
    both, same = transfer["both_wrong"].observed, transfer["negative"].observed
    assert not (same > both + 1e-12).any()
    # Bayes: |both right| is the same from either side.
    counts = transfer["positive"].observed * (predicted == answers).sum(axis=1)[:, None]
    both_known = np.isfinite(counts) & np.isfinite(counts.T)
    np.testing.assert_allclose(counts[both_known], counts.T[both_known])


def test_popular_choice_by_hand():
    # One item, answer 0. l0 took 1; of the others, without l1: l2 took 1, l3 took 2, l4 is right.
    predicted = np.array([[1], [1], [1], [2], [0]])
    popular = t.popular_choice(predicted, np.array([0]), np.array([4]))[0]
    assert popular[0, 1] == pytest.approx(1 / 2)
    assert popular[0, 2] == pytest.approx(1 / 2)  # without l2: l1 took 1, l3 took 2
    assert popular[3, 0] == 0  # nobody else took 2
    assert popular[0, 4] == pytest.approx(2 / 3)


def test_popularity_without_wrong_languages_is_uniform():
    predicted = np.array([[1], [1], [0]])
    assert t.popular_choice(predicted, np.array([0]), np.array([3]))[0, 0, 1] == 0.5


def worlds(rng, probability, n_worlds=60, distractors=None):
    """Mean lifts (kind, baseline) over worlds drawn from (language, item) chances to be right."""
    n_languages, n_items = probability.shape
    answers = np.zeros(n_items, dtype=int)
    lifts: dict[tuple[str, str], list] = {}
    for _ in range(n_worlds):
        right = rng.random(probability.shape) < probability
        if distractors is None:
            wrong = rng.integers(1, 4, probability.shape)
        else:
            draw = rng.random((n_languages, n_items, 1))
            wrong = 1 + (draw > np.cumsum(distractors, axis=1)[:, :2]).sum(axis=-1)
        by_kind = transfer_matrices(
            predictions_of(right, answers, wrong), answers, np.full(n_items, 4)
        )
        for kind, transfer in by_kind.items():
            for baseline in b.BASELINES:
                if getattr(transfer, baseline) is not None:
                    lift = transfer.observed - getattr(transfer, baseline)
                    lifts.setdefault((kind, baseline), []).append(lift)
    return {key: np.mean(values, axis=0) for key, values in lifts.items()}


def largest(matrix):
    return np.abs(matrix[~np.eye(len(matrix), dtype=bool)]).max()


def test_lift_is_zero_under_planted_independence(rng):
    accuracies = np.array([0.25, 0.4, 0.55, 0.7, 0.8])
    lifts = worlds(rng, np.repeat(accuracies[:, None], 200, axis=1))
    assert len(lifts) == 7
    for lift in lifts.values():
        assert largest(lift) < 0.03


def test_guessers_share_nothing_where_items_differ_in_their_number_of_choices(rng):
    n_choices = np.repeat([2, 8], 120)
    lifts, kappas = [], []
    for _ in range(30):
        values = rng.normal(size=(4, 240, 8))
        values[:, np.arange(8) >= n_choices[:, None]] = np.nan
        data = scores_dataset(values, np.zeros(240, dtype=int), n_choices=n_choices)
        result = b.behaviour(data)
        lifts.append(result["mean_lift_independent"].sel(sign="positive", scope="all_pairs").item())
        kappas.append(result["mean_kappa"].sel(scope="all_pairs").item())
    assert abs(np.mean(lifts)) < 0.02 and abs(np.mean(kappas)) < 0.02  # .10 and .12 without strata


def test_difficulty_alone_raises_the_first_lift_and_not_the_second(rng):
    difficulty = rng.normal(size=300) * 1.5
    ability = np.array([-2.0, -1, -0.5, 0, 0.5, 1, 1.5, 2.5])
    probability = 0.25 + 0.75 / (1 + np.exp(difficulty - ability[:, None]))
    lifts = worlds(rng, probability)
    for kind in ("positive", "both_wrong"):
        alone, explained = lifts[kind, "independent"], lifts[kind, "difficulty"]
        assert np.nanmean(alone) > 0.04
        assert np.nanmean(np.abs(explained)) < 0.1 * np.nanmean(np.abs(alone))
        assert largest(explained) < 0.25 * largest(alone)


def test_popular_distractors_raise_the_lift_over_difficulty_and_not_over_popularity(rng):
    distractors = rng.dirichlet([0.5] * 3, size=300)
    lifts = worlds(rng, np.full((8, 300), 0.4), distractors=distractors)
    between = ~np.eye(8, dtype=bool)
    assert lifts["negative", "difficulty"][between].min() > 0.05
    assert largest(lifts["negative", "popularity"]) < 0.025


def test_two_languages_that_share_more_than_the_rest_stand_out_over_difficulty(rng):
    n_items = 200
    lifts = []
    for _ in range(20):
        right = rng.random((6, n_items)) < 0.5
        copied = rng.random(n_items) < 0.5
        right[1, copied] = right[0, copied]
        transfer = transfer_matrices(
            np.where(right, 0, 1), np.zeros(n_items, int), np.full(n_items, 4)
        )
        lifts.append(transfer["positive"].observed - transfer["positive"].difficulty)
    lift = np.mean(lifts, axis=0)
    # Half of the items copied: P(right | right) = 0.5 + 0.5 * 0.5 = 0.75, 0.25 above accuracy.
    assert lift[0, 1] == pytest.approx(0.25, abs=0.04)
    assert abs(lift[2, 3]) < 0.04


def test_lift_over_difficulty_averages_to_nothing_over_targets(rng):
    """Why the means of relative lifts are not reported: shared knowledge looks like ease."""
    right = np.repeat(rng.random((1, 200)) < 0.5, 6, axis=0) ^ (rng.random((6, 200)) < 0.1)
    transfer = transfer_matrices(np.where(right, 0, 1), np.zeros(200, int), np.full(200, 4))
    positive = transfer["positive"]
    assert np.nanmean(positive.observed - positive.independent) > 0.2
    assert abs(np.nanmean(positive.observed - positive.difficulty)) < 0.01


# The dataset


@pytest.fixture(scope="module")
def study():
    """Five languages: l1 ranks as l0 does, l4 guesses; 2 to 4 choices, items cluster in twos."""
    rng = np.random.default_rng(7)
    values, n_choices, answers = random_scores(rng, 5, 90, ragged=True)
    values[:4, np.arange(90), answers] += 1.0
    values[1] = values[0] * 2
    identical = rng.random(values.shape) < 0.1
    data = scores_dataset(
        values, answers, n_choices, np.repeat(np.arange(45), 2), identical, np.full(values.shape, 2)
    )
    return data, b.behaviour(data)


def test_dataset_holds_what_the_contract_names(study):
    _, result = study
    pairs = ("language", "language_2")
    expected = {
        "accuracy": ("language",),
        "near_chance": ("language",),
        "accuracy_by_score": ("score", "language"),
        "tie_rate": ("language",),
        "identical_share": ("language",),
        "consistency": pairs,
        "consistency_concatenated": pairs,
        "consistency_shuffled": pairs,
        "consistency_distinct": pairs,
        "kappa": pairs,
        "transfer": ("sign", *pairs),
        "transfer_both_wrong": pairs,
        "transfer_independent": ("sign", *pairs),
        "transfer_difficulty": ("sign", *pairs),
        "transfer_popularity": ("sign", *pairs),
        "lift_independent_low": ("sign", *pairs),
        "lift_difficulty_high": ("sign", *pairs),
        "lift_popularity": ("sign", *pairs),
        "mean_consistency": ("scope",),
        "mean_transfer_low": ("sign", "scope"),
        "mean_lift_independent_crossed_high": ("sign", "scope"),
        "correct": ("language", "item"),
        "prediction": ("language", "item"),
        "margin": ("language", "item"),
        "chance": (),
    }
    assert {name: result[name].dims for name in expected} == expected
    assert all({"long_name", "units"} <= set(result[name].attrs) for name in result.data_vars)
    assert list(result.score.values) == ["sum", "token", "char", "byte"]


def test_dataset_survives_netcdf(study, tmp_path):
    from isogloss.files.netcdf import write_netcdf

    _, result = study
    write_netcdf(result, tmp_path / "behaviour.nc")
    with xr.open_dataset(tmp_path / "behaviour.nc") as read:
        xr.testing.assert_equal(read.load(), result)


def test_accuracy_chance_and_margin_agree_with_predictions(study):
    data, result = study
    correct = result.prediction == data["answer"]
    np.testing.assert_array_equal(result.correct, correct)
    np.testing.assert_allclose(result.accuracy, correct.mean("item"))
    np.testing.assert_array_equal(result.correct, result.margin > 0)
    assert result.chance == pytest.approx(float((1 / data["n_choices"]).mean()))
    assert result.near_chance.values.tolist() == [False, False, False, False, True]
    np.testing.assert_allclose(result.accuracy_by_score.sel(score="token"), result.accuracy)


def test_a_copied_language_is_fully_consistent(study):
    _, result = study
    assert result.consistency[0, 1] == pytest.approx(1)
    assert result.kappa[0, 1] == pytest.approx(1)
    np.testing.assert_allclose(result.transfer[:, 0, 1], 1)
    assert abs(result.consistency[0, 4]) < 0.3
    assert result.consistency_low[0, 2] < result.consistency[0, 2] < result.consistency_high[0, 2]


def test_means_are_over_ordered_pairs_and_pairs_with_the_pivot(study):
    _, result = study
    between = ~np.eye(5, dtype=bool)
    for name in ("consistency", "kappa", "transfer_both_wrong"):
        matrix, mean = result[name].values, result[f"mean_{name}"]
        assert mean.sel(scope="all_pairs") == pytest.approx(matrix[between].mean())
        assert mean.sel(scope="from_pivot") == pytest.approx(matrix[0, 1:].mean())
        assert mean.sel(scope="to_pivot") == pytest.approx(matrix[1:, 0].mean())
        expected = (matrix[0, 1:].mean() + matrix[1:, 0].mean()) / 2
        assert mean.sel(scope="pivot_pairs") == pytest.approx(expected)
        assert (result[f"mean_{name}_low"] <= mean).all()
        assert (result[f"mean_{name}_high"] >= mean).all()


def test_drawing_languages_too_widens_the_interval(study):
    _, result = study
    items = result.mean_consistency_high - result.mean_consistency_low
    crossed = result.mean_consistency_crossed_high - result.mean_consistency_crossed_low
    assert (crossed > items).all()


def test_means_that_are_zero_by_construction_are_not_reported(study):
    _, result = study
    for lift in (
        result.mean_lift_difficulty.sel(sign="positive"),
        result.mean_lift_popularity.sel(sign="negative"),
        result.mean_lift_both_wrong_difficulty,
    ):
        np.testing.assert_array_equal(np.isfinite(lift), lift.scope == "to_pivot")
    assert np.isfinite(result.mean_lift_independent).all()
    assert np.isnan(result.transfer_popularity.sel(sign="positive")).all()


def test_lift_is_transfer_minus_its_baseline(study):
    _, result = study
    for baseline in b.BASELINES:
        lift = result.transfer - result[f"transfer_{baseline}"]
        np.testing.assert_allclose(result[f"lift_{baseline}"], lift)
    lift = result.transfer_both_wrong - result.transfer_both_wrong_difficulty
    np.testing.assert_allclose(result.lift_both_wrong_difficulty, lift)


def test_identity_is_counted_for_every_pair_not_only_through_the_pivot(rng):
    values, _, answers = random_scores(rng, 3, 40)
    spelling = np.arange(values.size).reshape(values.shape)
    spelling[2, :30, 1] = spelling[1, :30, 1]  # Spanish and Portuguese alike, English not
    result = b.behaviour(scores_dataset(values, answers, spelling=spelling))
    assert result.identical_share.values.tolist() == [1, 0, 0]
    assert result.identical_share_pairs[1, 2] == pytest.approx(30 / 160)
    rho = b.item_consistency(b.ranks(values, np.full(40, 4)))
    assert result.consistency_distinct[1, 2] == pytest.approx(rho[30:, 1, 2].mean())
    assert result.consistency_distinct[0, 2] == pytest.approx(rho[:, 0, 2].mean())
    assert not result.mostly_alike.any()


def test_languages_that_spell_most_choices_alike_are_marked(rng):
    values, _, answers = random_scores(rng, 3, 40)
    identical = np.zeros(values.shape, bool)
    identical[1, :, :3] = True
    result = b.behaviour(scores_dataset(values, answers, identical=identical))
    assert result.mostly_alike.values.tolist() == [True, True, False]


def test_a_taste_for_certain_strings_shows_without_the_question(rng):
    """Choices are numerals in all languages: no question is read, and all agree all the same."""
    taste = rng.normal(size=(1, 120, 4))
    values = taste + 0.3 * rng.normal(size=(3, 120, 4))
    data = scores_dataset(values, rng.integers(0, 4, 120), spelling=np.zeros(values.shape, int))
    data["pmi"] = data["sum"] - np.repeat(taste, 3, axis=0)
    result = b.behaviour(data)
    assert result.consistency[0, 1] > 0.7 and result.mostly_alike.all()
    assert np.isnan(result.consistency_distinct[0, 1])
    assert result.consistency_choices_only[0, 1] == pytest.approx(1)
    without_question = b.behaviour(data, "pmi").mean_consistency
    assert (
        abs(without_question.sel(scope="all_pairs")) < 0.15
    )  # what the question adds agrees on nothing
    lift = result.mean_lift_independent.sel(scope="all_pairs", sign="positive")
    alone = result.mean_lift_independent_choices_only.sel(scope="all_pairs")
    assert lift > 0.2 and alone == pytest.approx(float(lift), abs=0.2)


def test_languages_that_agree_on_all_of_few_items_have_no_certain_consistency(rng):
    """Two choices, and languages that disagree on one item in a hundred: they often do on none."""
    true, covered, known = 0.98, 0, 0
    for _ in range(50):
        answers = rng.integers(0, 2, 60)
        first = rng.normal(size=(1, 60, 2))
        second = np.where(rng.random((1, 60, 1)) < 0.01, first[..., ::-1], first)
        result = b.behaviour(scores_dataset(np.concatenate([first, second]), answers))
        for name, at in (("consistency", (0, 1)), ("mean_consistency", 0)):
            low, high = float(result[f"{name}_low"][at]), float(result[f"{name}_high"][at])
            known += np.isfinite(low)
            covered += low <= true <= high
        assert np.isfinite(result.consistency[0, 1])
    assert 20 < known < 80 and covered >= 0.93 * known


@pytest.mark.parametrize("mode", ["sum", "token", "char", "byte"])
def test_what_the_choices_give_alone_is_by_the_score_of_the_rest(rng, mode):
    """The question adds nothing: whatever ranks the choices ranks them alike without it."""
    values, _, answers = random_scores(rng, 3, 60)
    data = scores_dataset(values, answers)
    for name in ("n_tokens", "n_characters", "n_bytes"):
        data[name] = (data["sum"].dims, rng.integers(1, 9, values.shape))
    result = b.behaviour(data.assign(pmi=data["sum"] * 0), mode)
    for name in ("accuracy", "mean_consistency"):
        np.testing.assert_allclose(result[f"{name}_choices_only"], result[name])


@pytest.mark.parametrize("at_once", [1, 2 * 5 * 90])
def test_pairs_in_parts_are_as_all_at_once(study, at_once, monkeypatch):
    data, _ = study
    data = data.assign(pmi=data["sum"] / 2)
    whole = b.behaviour(data)
    monkeypatch.setattr(language_pairs, "PAIR_ITEMS_AT_ONCE", at_once)
    xr.testing.assert_allclose(b.behaviour(data), whole, rtol=0, atol=1e-12)


def test_without_an_extra_pass_there_is_no_control_of_the_choices(study):
    _, result = study
    assert not [name for name in result.data_vars if "choices_only" in str(name)]


def test_string_identical_choices_are_left_out_of_the_distinct_consistency(study):
    data, result = study
    same = (data["identical_to_pivot"].values & np.isfinite(data["sum"].values)).any(axis=2)
    kept = ~same[2]
    rho = b.item_consistency(b.ranks(b.choice_scores(data), data["n_choices"].values))[:, 0, 2]
    assert result.consistency_distinct[0, 2] == pytest.approx(np.nanmean(rho[kept]))
    assert 0.05 < result.identical_share[2] < 0.15
    assert result.identical_share[0] == 1


def test_clusters_without_a_distinct_item_give_no_degree_of_freedom(rng):
    """A mean of five items is as sure as five are, however many others the study has."""
    values, n_choices, answers = random_scores(rng, 2, 60)
    data = scores_dataset(values, answers, n_choices, np.arange(60))
    spelling = np.arange(values.size).reshape(values.shape)
    spelling[1, 5:] = spelling[0, 5:]
    result = b.behaviour(data.assign(spelling=(("language", "item", "choice"), spelling)))
    rho = b.item_consistency(b.ranks(values, n_choices))[:5, 0, 1]
    expected = np.clip(stats.t.interval(0.95, 4, rho.mean(), stats.sem(rho)), -1, 1)
    for name in ("consistency_distinct", "mean_consistency_distinct"):
        for end, bound in zip(("low", "high"), expected, strict=True):
            assert np.asarray(result[f"{name}_{end}"])[0].flat[-1] == pytest.approx(bound), name


def test_a_language_without_a_value_is_no_unit_of_the_crossed_interval(rng):
    """Some languages have too few right answers for a transfer from them."""
    values, n_choices, answers = random_scores(rng, 6, 60)
    values[:4, np.arange(30), answers[:30]] += 9
    values[1, :20] = values[1, 20:40]
    values[4:, np.arange(60), answers] -= 99
    data = scores_dataset(values, answers, n_choices, np.arange(60))
    scope = {"scope": "to_pivot", "sign": "positive"}
    every, some = (b.behaviour(x).sel(scope) for x in (data, data.isel(language=slice(4))))
    assert every["mean_transfer"] == pytest.approx(float(some["mean_transfer"]))
    for end in ("low", "high"):
        name = f"mean_transfer_crossed_{end}"
        assert every[name] == pytest.approx(float(some[name]))


@pytest.mark.parametrize("how", ["none", "threes"])
def test_intervals_of_lift_over_difficulty_cover_at_sixty_items(rng, how):
    """Student's t around it held .90 to the pivot: the baseline is a ratio, which is skewed."""
    world, clusters = Answers(), clusters_of(60, how)
    big = world.scores(rng, np.arange(40_000))
    truths = [i.estimate for i in lifts_over_difficulty(big, Jackknife(np.arange(40_000) % 2))]
    covered = [[], []]
    for _ in range(200):
        transfer = lifts_over_difficulty(world.scores(rng, clusters), Jackknife.of(clusters))
        for interval, truth, holds in zip(transfer, truths, covered, strict=True):
            inside = (interval.low <= truth) & (truth <= interval.high)
            holds.append(np.where(np.isfinite(interval.low), inside, np.nan))
    by_pair = np.nanmean(np.array(covered[0])[:, ~np.eye(5, dtype=bool)], axis=0)
    assert by_pair.mean() > 0.935
    assert by_pair.min() > 0.89
    assert np.nanmean(covered[1]) > 0.925


def test_difficulty_is_not_told_by_languages_at_chance(rng):
    """The baseline would be divided by their noise."""
    right = rng.random((5, 60)) < np.array([0.7, 0.25, 0.25, 0.25, 0.25])[:, None]
    transfer = t.transfers(
        np.where(right, 0, 1), np.zeros(60, int), np.full(60, 4), Jackknife.of(np.arange(60))
    )
    assert np.isnan(transfer["positive"].difficulty[0, 1:, 0]).all()
    assert np.isfinite(transfer["positive"].independent[0, 1:, 0]).all()


def lifts_over_difficulty(data, jackknife):
    predicted = b.predictions(b.choice_scores(data))
    transfer = t.transfers(predicted, data.answer.values, data.n_choices.values, jackknife)[
        "positive"
    ]
    lifts = transfer.observed - transfer.difficulty
    means, scales = (
        pair_means(np.where(np.isfinite(lifts[0]), rows, np.nan), pair_scopes(LANGUAGES, "l0"))
        for rows in (lifts, transfer.scale)
    )
    to_pivot = SCOPES.index("to_pivot")
    return (
        jackknife.ratio_interval(lifts, transfer.scale),
        jackknife.ratio_interval(means[:, to_pivot], scales[:, to_pivot]),
    )


def test_intervals_of_lift_cover_independence(rng):
    covered = []
    for _ in range(60):
        right = rng.random((3, 80)) < 0.5
        predicted, answers = np.where(right, 0, 1), np.zeros(80, dtype=int)
        jackknife = Jackknife.of(np.arange(80))
        positive = t.transfers(predicted, answers, np.full(80, 4), jackknife)["positive"]
        interval = jackknife.interval(positive.observed - positive.independent)
        covered.append((interval.low <= 0) & (interval.high >= 0))
    assert 0.9 <= np.mean(covered, axis=0)[~np.eye(3, dtype=bool)].mean() <= 0.99


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_languages", [1, 2])
def test_few_languages_and_constant_answers_give_nan_without_warnings(n_languages):
    values = np.zeros((n_languages, 20, 2))
    values[:, :, 0] = 1
    result = b.behaviour(scores_dataset(values, np.zeros(20, int)))
    assert (result.accuracy == 1).all() and (result.accuracy_low < 1).all()
    assert np.isnan(result.transfer.sel(sign="negative")).all()
    assert np.isnan(result.kappa).all()


@pytest.mark.filterwarnings("error")
def test_all_choices_tied_has_no_consistency_and_is_counted():
    result = b.behaviour(scores_dataset(np.zeros((2, 12, 3)), np.zeros(12, int)))
    assert np.isnan(result.consistency).all()
    assert (result.tie_rate == 1).all() and (result.best_tie_rate == 1).all()
    assert (result.prediction == 0).all()


def test_a_pivot_outside_the_languages_leaves_pivot_means_empty(rng):
    values, _, answers = random_scores(rng, 3, 30)
    data = scores_dataset(values, answers).assign_attrs(pivot="xx")
    result = b.behaviour(data)
    assert np.isnan(result.mean_consistency.sel(scope="pivot_pairs"))
    assert np.isfinite(result.mean_consistency.sel(scope="all_pairs"))


def test_means_that_models_are_compared_on_are_kept_without_each_cluster_and_language(rng):
    clusters = clusters_of(24, "threes")
    scores = Answers().scores(rng, clusters)
    whole = b.behaviour(scores)
    fewer = b.behaviour(scores.isel(item=clusters != 2))
    others = b.behaviour(scores.drop_sel(language="l3"))
    for name in ("mean_accuracy", "mean_consistency", "mean_lift_independent"):
        without = whole[f"{name}_without_cluster"].sel(cluster=2)
        np.testing.assert_allclose(without, fewer[name], atol=1e-12)
        without = whole[f"{name}_without_language"].sel(language="l3")
        np.testing.assert_allclose(without, others[name], atol=1e-12)
    around = whole["mean_consistency_without_language"].sel(language="l0")
    assert np.isfinite(around.sel(scope="all_pairs")) and np.isnan(around.sel(scope="to_pivot"))
    assert whole["mean_accuracy_crossed_low"] < whole["mean_accuracy_low"]
