from itertools import pairwise

import anndata
import numpy as np
import pandas as pd
import pytest
from _tiny import says
from scipy import sparse

from skfusion import Modalities, ampute, ampute_values
from skfusion.modalities.ampute import MECHANISMS

N = 2000
NAMES = ["labs", "ecg", "notes"]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(N, 3))
    own[:, 1] += own[:, 0]  # ecg goes with labs, notes with neither
    return Modalities(
        {
            "labs": own[:, [0]] + 0.1 * rng.normal(size=(N, 4)),
            "ecg": own[:, 1, None, None] + 0.1 * rng.normal(size=(N, 5, 2)),
            "notes": sparse.csr_matrix(np.exp(own[:, [2]]) * rng.uniform(0.9, 1.1, size=(N, 6))),
        }
    )


def lost(X, left):
    return X.present & ~left.present


def corr(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def partial(a, b, given):
    """The correlation of a and b that `given` (n, k) does not explain."""
    given = np.column_stack([np.ones(len(a)), given])
    a, b = (v - given @ np.linalg.lstsq(given, v, rcond=None)[0] for v in (a.astype(float), b.astype(float)))
    return corr(a, b)


NO_MORE_THAN_CHANCE = 4 / np.sqrt(N)


# rates


@pytest.mark.parametrize("rate", [0, 0.01, 0.3, 0.5])
@pytest.mark.parametrize("mechanism", ["mcar", "mnar"])
def test_a_rate_is_met_to_the_sample_in_each_modality(X, rate, mechanism):
    left = ampute(X, rate, mechanism, random_state=0)
    assert lost(X, left).sum(axis=0).tolist() == [round(rate * N)] * 3


def test_a_rate_a_modality(X):
    left = ampute(X, {"ecg": 0.7, "notes": 0.9}, random_state=0)
    assert lost(X, left).sum(axis=0).tolist() == [0, 1400, 1800]


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.9, 0.1), (0.3, 0.7)])
@pytest.mark.parametrize("n", [10, 30, 2000])
def test_rates_that_leave_one_modality_each_are_met(X, rates, n):
    two = X.select(["labs", "ecg"])[:n]
    left = ampute(two, dict(zip(two.names, rates)), random_state=0)
    np.testing.assert_allclose(lost(two, left).sum(axis=0), n * np.array(rates), atol=1e-9)
    assert (left.present.sum(axis=1) == 1).all()


@pytest.mark.parametrize("mechanism", ["mcar", "mnar"])
def test_the_highest_rate_for_all_is_met_on_few_samples(X, mechanism):
    left = ampute(X[:30], 2 / 3, mechanism, random_state=0)
    assert lost(X[:30], left).sum(axis=0).tolist() == [20] * 3


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("rate", [0.3, 0.66])
def test_each_sample_keeps_one_of_what_it_had(X, mechanism, rate):
    holes = np.random.default_rng(1).uniform(size=X.shape) > 0.3
    X = Modalities(X, present=holes)
    left = ampute(X, rate, mechanism, random_state=0)
    np.testing.assert_array_equal(left.present.any(axis=1), X.present.any(axis=1))
    assert not (left.present & ~X.present).any(), "what is missing stays missing"
    assert left.present.sum() < X.present.sum()


def test_what_was_missing_does_not_count_towards_the_rate(X):
    X = Modalities(X, present={"labs": np.arange(N) % 2 == 0})
    assert lost(X, ampute(X, 0.3, random_state=0)).sum(axis=0).tolist() == [300, 600, 600]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_is_missing_at_a_rate_is_missing_at_every_higher_one(X, mechanism):
    by_rate = [lost(X, ampute(X, rate, mechanism, random_state=3)) for rate in (0, 0.2, 0.4, 0.6)]
    for less, more in pairwise(by_rate):
        assert not (less & ~more).any()
        assert more.sum() > less.sum()
    assert not by_rate[0].any()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_same_seed_takes_the_same(X, mechanism):
    masks = [ampute(X, 0.4, mechanism, random_state=seed).present for seed in (0, 0, 1, np.random.RandomState(0))]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[3])
    assert (masks[0] != masks[2]).any()


def test_only_present_changes(X):
    before = X.present.copy()
    left = ampute(X, 0.5, random_state=0)
    assert all(left[name] is X[name] for name in X.names)
    assert left.names == X.names
    np.testing.assert_array_equal(X.present, before)
    assert not left.present.flags.writeable


# mechanisms


def test_mcar_depends_on_nothing(X):
    gone = lost(X, ampute(X, 0.3, random_state=0))
    labs = X["labs"].mean(axis=1)
    assert abs(corr(gone[:, 0], labs)) < NO_MORE_THAN_CHANCE
    assert abs(corr(gone[:, 1], labs)) < NO_MORE_THAN_CHANCE
    # All three are never lost; else as if each were drawn alone, but for what makes up for that.
    assert gone.all(axis=1).sum() == 0
    np.testing.assert_allclose((gone[:, 0] & gone[:, 1]).mean(), 0.08, atol=0.025)


def test_mar_depends_on_the_observed_modality_alone(X):
    gone = lost(X, ampute(X, 0.4, "mar", by="labs", random_state=0))
    assert gone.sum(axis=0).tolist() == [0, 800, 800]
    labs, ecg = X["labs"].mean(axis=1), X["ecg"].mean(axis=(1, 2))
    assert corr(gone[:, 1], labs) > 0.4
    assert corr(gone[:, 2], labs) > 0.4
    assert corr(gone[:, 1], ecg) > 0.2, "which goes with labs"
    # Standing enters by a logistic curve: a few powers of it explain all that labs explain.
    assert abs(partial(gone[:, 1], ecg, np.column_stack([labs, labs**2, labs**3]))) < NO_MORE_THAN_CHANCE


def test_mar_is_the_logistic_curve(X):
    gone = lost(X, ampute(X, {"ecg": 0.5}, "mar", by="labs", strength=1.5, random_state=0))[:, 1]
    labs = (X["labs"] - X["labs"].mean(axis=0)) / X["labs"].std(axis=0)
    standing = labs.mean(axis=1) / labs.mean(axis=1).std()
    for low, high in ((-2, -1), (-1, 0), (0, 1), (1, 2)):
        inside = (standing > low) & (standing < high)
        due = (1 / (1 + np.exp(-1.5 * standing[inside]))).mean()
        assert abs(gone[inside].mean() - due) < 4 * np.sqrt(0.25 / inside.sum())


def test_mar_takes_the_first_modality_and_spares_it(X):
    default = ampute(X, 0.4, "mar", random_state=0).present
    np.testing.assert_array_equal(default, ampute(X, 0.4, "mar", by="labs", random_state=0).present)
    assert not lost(X, ampute(X, 0.9, "mar", by="ecg", random_state=0))[:, 1].any()


@pytest.mark.parametrize("name", NAMES)
def test_mnar_takes_what_is_large_itself(X, name):
    values = X[name].toarray() if name == "notes" else X[name]
    own = values.reshape(N, -1).mean(axis=1)
    gone = lost(X, ampute(X, 0.3, "mnar", random_state=0))[:, NAMES.index(name)]
    assert own[gone].mean() > own.mean() + 0.5 * own.std()
    small = lost(X, ampute(X, 0.3, "mnar", strength=-2, random_state=0))[:, NAMES.index(name)]
    assert own[small].mean() < own.mean() - 0.2 * own.std()


def test_texts_and_categories_decide_by_length_and_order():
    n = 600
    length = np.arange(n) % 30
    X = {
        "notes": ["x" * int(k) for k in length],
        "table": pd.DataFrame({"grade": np.array(list("abcdef"))[np.arange(n) % 6]}),
        "other": np.zeros((n, 1)),
    }
    for by, own in (("notes", length), ("table", np.arange(n) % 6)):
        gone = ~ampute(X, {"other": 0.4}, "mar", by=by, random_state=0).present[:, 2]
        assert gone.sum() == 240
        assert corr(gone, own) > 0.4


def test_csr_and_dense_decide_alike(X):
    dense = Modalities({**{name: X[name] for name in NAMES}, "notes": X["notes"].toarray()})
    due = ampute(dense, 0.4, "mar", by="notes", random_state=0).present
    np.testing.assert_array_equal(ampute(X, 0.4, "mar", by="notes", random_state=0).present, due)


@pytest.mark.parametrize("constant", [0.1, 1e6 / 3])
def test_a_constant_column_decides_nothing(constant):
    x = np.random.default_rng(0).normal(size=(400, 1))
    x[::2] = np.nan
    masks = [
        ampute({"a": np.hstack([np.full((400, 4), value), x]), "b": np.ones((400, 1))}, {"a": 0.3}, "mnar", **options)
        for options in [{"strength": 8.0, "random_state": 0}]
        for value in (0.5, constant)
    ]
    np.testing.assert_array_equal(masks[0].present, masks[1].present)


def test_csr_of_large_values_decides_by_them(X):
    labs = X["labs"] + 1e8
    due = ampute({"labs": labs, "ecg": X["ecg"]}, {"labs": 0.3}, "mnar", random_state=0).present
    found = ampute({"labs": sparse.csr_matrix(labs), "ecg": X["ecg"]}, {"labs": 0.3}, "mnar", random_state=0).present
    assert (found == due).mean() > 0.98


@pytest.mark.parametrize("mechanism", ["mar", "mnar"])
def test_what_lies_in_a_missing_slot_decides_nothing(X, mechanism):
    holes = np.random.default_rng(1).uniform(size=N) > 0.3
    masks = []
    for filler in (0.0, np.inf, np.nan, 1e9):
        labs = np.where(holes[:, None], X["labs"], filler)
        data = Modalities({"labs": labs, "ecg": X["ecg"]}, present={"labs": holes})
        masks.append(ampute(data, 0.4, mechanism, random_state=0).present)
    assert all((mask == masks[0]).all() for mask in masks)


def test_a_block_loses_the_same_modalities(X):
    groups = np.random.default_rng(0).integers(0, 40, N)
    left = ampute(X, 0.3, "block", groups=groups, random_state=0)
    for group in range(40):
        assert (np.ptp(left.present[groups == group].astype(int), axis=0) == 0).all()
    half = np.bincount(groups).max() / 2
    assert (abs(lost(X, left).sum(axis=0) - 0.3 * N) <= half).all()
    assert len(np.unique(left.present, axis=0)) > 2, "blocks lose different modalities"


def blocks_of(kind, n, rng):
    return {
        "equal": np.arange(n) // 10,
        "uneven": np.sort(rng.integers(0, 20, n)),
        "sites": rng.choice(12, n, p=rng.dirichlet(np.ones(12))),
    }[kind]


@pytest.mark.parametrize("n_modalities", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["equal", "uneven", "sites"])
def test_rates_of_blocks_are_met_to_half_a_block(n_modalities, kind):
    n, top = 200, 1 - 1 / n_modalities
    X = Modalities({name: np.zeros((n, 1)) for name in "abcdef"[:n_modalities]})
    for seed in range(20):
        groups = blocks_of(kind, n, np.random.default_rng(seed))
        largest = np.bincount(groups).max()
        before = np.zeros(X.shape, dtype=bool)
        for rate in (0.1, 0.3, 0.45, 0.6, 0.7, 0.75, top):
            if rate > top:
                continue
            gone = lost(X, ampute(X, rate, "block", groups=groups, random_state=seed))
            off = abs(gone.sum(axis=0) - rate * n).max()
            assert off <= largest * (1 if rate > top - 0.1 else 0.5) + 0.5, (seed, rate)
            if rate > before.mean():
                assert not (before & ~gone).any(), "nested"
                before = gone
            assert all(
                (gone[groups == group] == gone[groups == group][0]).all()
                for group in range(groups.max())
                if (groups == group).any()
            )
            assert not gone.all(axis=1).any()


@pytest.mark.parametrize(
    ("n", "names", "rate", "length"), [(200, "ab", 0.5, None), (200, "abc", 0.6, None), (1000, "abcd", 0.7, None)]
)
def test_blocks_that_fit_meet_the_rate_to_the_sample(n, names, rate, length):
    X = Modalities({name: np.zeros((n, 1)) for name in names})
    for seed in range(30):
        gone = lost(X, ampute(X, rate, "block", groups=length, random_state=seed))
        assert gone.sum(axis=0).tolist() == [round(rate * n)] * len(names)


def test_sites_that_lack_a_modality_already_keep_another(X):
    sites = np.arange(N) // 50
    has = np.random.default_rng(0).uniform(size=(40, 3)) > 0.2
    has[~has.any(axis=1)] = True
    X = Modalities(X, present=has[sites])
    before = None
    for rate in (0.2, 0.4, 0.5):
        left = ampute(X, rate, "block", groups=sites, random_state=0)
        assert (abs(lost(X, left).sum(axis=0) - rate * X.present.sum(axis=0)) <= 25.5).all()
        assert (np.ptp(left.present.reshape(40, 50, 3).astype(int), axis=1) == 0).all()
        assert left.present.any(axis=1).all()
        assert before is None or not (left.present & ~before).any()
        before = left.present


def test_of_a_block_only_who_would_have_nothing_left_keeps_more():
    n = 300
    has = np.random.default_rng(0).uniform(size=(n, 2)) > 0.2
    X = Modalities({"a": np.zeros((n, 1)), "b": np.zeros((n, 1))}, present=has)
    blocks = np.arange(n) // 15
    for rate in (0.1, 0.2, 0.3):
        gone = lost(X, ampute(X, rate, "block", groups=blocks, random_state=0))
        both = X.present.all(axis=1)
        for block in range(20):
            assert len(np.unique(gone[both & (blocks == block)], axis=0)) == 1
        assert not gone[~both].any(), "who has one keeps it"
        assert (abs(gone.sum(axis=0) - rate * X.present.sum(axis=0)) <= 8).all()


def test_the_highest_rate_that_all_can_reach_is_met_where_some_lack_a_modality():
    n = 600
    X = Modalities({"a": np.zeros((n, 1)), "b": np.zeros((n, 1))}, present={"b": np.arange(n) < n // 2})
    gone = lost(X, ampute(X, 1 / 3, random_state=0))
    assert gone.sum(axis=0).tolist() == [200, 100]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mechanism", ["mcar", "mnar", "block"])
def test_what_was_missing_leads_to_no_warning(mechanism):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        has = rng.random((100, 4)) >= 0.4
        has[0] = True
        X = Modalities({name: rng.normal(size=(100, 2)) for name in "abcd"}, present=has)
        left = ampute(X, 0.5, mechanism, random_state=seed)
        np.testing.assert_array_equal(left.present.any(axis=1), X.present.any(axis=1))


@pytest.mark.parametrize(("groups", "length"), [(None, 100), (50, 50)])
def test_blocks_are_runs_of_rows_where_nobody_says(X, groups, length):
    left = ampute(X, 0.4, "block", groups=groups, random_state=0).present
    runs = left.reshape(-1, length, 3)
    assert (runs == runs[:, :1]).all()


def test_unseen_leaves_one_modality_or_all(X):
    left = ampute(X, 0.6, "unseen", random_state=0).present
    assert sorted(np.unique(left.sum(axis=1)).tolist()) == [1, 3]
    alone = left[left.sum(axis=1) == 1]
    assert len(alone) == 0.6 * N
    np.testing.assert_allclose(alone.mean(axis=0), 1 / 3, atol=0.06)
    assert (ampute(X, 1, "unseen", random_state=0).present.sum(axis=1) == 1).all()


# forms


def test_every_form_gives_the_same(X):
    rng = np.random.default_rng(0)
    data = {"labs": rng.normal(size=(50, 2)), "ecg": rng.normal(size=(50, 3))}
    due = ampute(data, 0.4, "mnar", random_state=0)
    table = np.hstack(list(data.values()))
    two_level = pd.concat({name: pd.DataFrame(values) for name, values in data.items()}, axis=1)
    adata = anndata.AnnData(obs=pd.DataFrame(index=[f"s{i}" for i in range(50)]), obsm=data)
    for other, modalities in (
        (Modalities(data), None),
        (Modalities({**data, "more": table}), ["labs", "ecg"]),
        (two_level, None),
        (table, {"labs": [0, 1], "ecg": slice(2, 5)}),
        (adata, {"labs": "obsm/labs", "ecg": "obsm/ecg"}),
    ):
        left = ampute(other, 0.4, "mnar", modalities=modalities, random_state=0)
        np.testing.assert_array_equal(left.present, due.present)
        np.testing.assert_array_equal(left["ecg"], data["ecg"])
    assert ampute(adata, 0.2, modalities={"a": "obsm/labs", "b": "obsm/ecg"}).sample_ids[3] == "s3"


@pytest.mark.parametrize(
    ("arguments", "options", "pieces"),
    [
        ((1,), {}, ["rate is 1 for 'labs'", "X.drop(['labs'])"]),
        (({"ecg": 1.0},), {}, ["rate is 1 for 'ecg'", "X.drop(['ecg'])"]),
        ((-0.1,), {}, ["rate is -0.1 for 'labs'", "due is a number from 0"]),
        (("half",), {}, ["rate is 'half'"]),
        ((True,), {}, ["rate is True for 'labs'", "due is a number from 0"]),
        ((0.2, "mnar"), {"strength": "x"}, ["strength is 'x'", "due is a finite number"]),
        ((0.2, "mnar"), {"strength": np.nan}, ["strength is nan", "due is a finite number"]),
        ((0.2, "block"), {"groups": "site"}, ["groups is 'site'", "how many rows make a block", "shape (2000,)"]),
        ((0.2, "block"), {"groups": True}, ["groups is True"]),
        ((0.7,), {}, ["takes 2.1 of 3 modalities", "may add up to 2", "0.667 at most", "a dict"]),
        (({"rna": 0.2},), {}, ["rate names ['rna']", "there are ['labs', 'ecg', 'notes']"]),
        ((0.2, "random"), {}, ["mechanism is 'random'", "'mcar'"]),
        ((0.2, "mar"), {"by": "rna"}, ["by is 'rna'"]),
        ((0.2, "mnar"), {"by": "labs"}, ["by is given, but mechanism is 'mnar'"]),
        ((0.2,), {"groups": np.zeros(N)}, ["groups is given, but mechanism is 'mcar'"]),
        (({"labs": 0.2}, "mar"), {"by": "labs"}, ["takes 'labs' away", "must stay"]),
        ((0.2, "block"), {"groups": np.zeros(3)}, ["groups has shape (3,); due is (2000,)"]),
        ((0.2, "block"), {"groups": 0}, ["groups is 0"]),
        (({"labs": 0.2}, "unseen"), {}, ["rate is {'labs': 0.2}", "one number from 0 to 1"]),
    ],
)
def test_errors_say_what_is_due(X, arguments, options, pieces):
    with says(ValueError, *pieces):
        ampute(X, *arguments, **options)


def test_one_table_or_one_modality_has_nothing_to_keep(X):
    with says(TypeError, "X is of type ndarray", "modalities={'name': columns, ...}"):
        ampute(np.zeros((3, 2)), 0.2)
    with says(ValueError, "X has no modality but ['labs']"):
        ampute(X.select(["labs"]), 0.2, "mar")
    with says(ValueError, "X has no modality but ['labs'], and one is always kept", "ampute_values"):
        ampute(X.select(["labs"]), 0.2)
    assert ampute(X.select(["labs"]), 0).present.all()


def test_inf_is_no_value_to_decide_by(X):
    labs = X["labs"].copy()
    labs[5] = np.inf
    with says(ValueError, "modality 'labs' holds inf"):
        ampute({"labs": labs, "ecg": X["ecg"]}, 0.2, "mar")


# single values


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_single_values_go_at_the_rate_in_a_copy(X, rate):
    before = X["labs"].copy()
    left = ampute_values(X, {"labs": rate, "ecg": rate}, random_state=0)
    np.testing.assert_array_equal(np.isnan(left["labs"]).sum(axis=0), rate * N)
    np.testing.assert_array_equal(np.isnan(left["ecg"]).sum(axis=0), rate * N)
    kept = ~np.isnan(left["labs"])
    np.testing.assert_array_equal(left["labs"][kept], before[kept])
    np.testing.assert_array_equal(X["labs"], before)
    assert kept.any(axis=1).all(), "a row keeps a value"
    assert left["notes"] is X["notes"]
    np.testing.assert_array_equal(left.present, X.present)


def test_single_values_are_nested_and_seeded():
    labs = np.arange(400).reshape(100, 4)
    few, more, again = (np.isnan(ampute_values({"labs": labs}, r, random_state=0)["labs"]) for r in (0.2, 0.5, 0.5))
    assert not (few & ~more).any()
    np.testing.assert_array_equal(more, again)


@pytest.mark.parametrize("name", ["labs", "ecg", "table"])
def test_by_themselves_high_values_go(X, name):
    table = pd.DataFrame(
        {"age": X["labs"][:, 0], "grade": np.array(list("abcd"))[np.arange(N) % 4], "sex": X["ecg"][:, 0, 0]}
    )
    X = Modalities({"labs": X["labs"], "ecg": X["ecg"], "table": table})
    own = np.column_stack([X["labs"][:, 0], np.arange(N) % 4]) if name == "table" else X[name].reshape(N, -1)
    by_rate = []
    for rate in (0.2, 0.4):
        left = ampute_values(X, {name: rate}, "mnar", random_state=0)[name]
        gone = np.asarray(pd.isna(left)).reshape(N, -1)
        np.testing.assert_array_equal(gone.sum(axis=0), rate * N)
        assert not gone.all(axis=1).any()
        by_rate.append(gone)
        for column in range(own.shape[1]):
            assert own[~gone[:, column], column].mean() < own[:, column].mean() - 0.1 * own[:, column].std()
    assert not (by_rate[0] & ~by_rate[1]).any()
    low = np.asarray(pd.isna(ampute_values(X, {name: 0.2}, "mnar", strength=-2, random_state=0)[name])).reshape(N, -1)
    assert own[low[:, 0], 0].mean() < own[:, 0].mean() - 0.3 * own[:, 0].std()
    assert (ampute_values(X, {name: 0.2}, "mnar", strength=0, random_state=0).present == X.present).all()


def test_values_in_a_missing_slot_and_nan_decide_nothing():
    rng = np.random.default_rng(0)
    labs, has = rng.normal(size=(300, 3)), rng.random(300) > 0.3
    labs[has, 1] = np.where(rng.random(has.sum()) < 0.2, np.nan, labs[has, 1])
    masks = []
    for filler in (0.0, np.inf, 1e9):
        data = Modalities({"labs": np.where(has[:, None], labs, filler)}, present={"labs": has})
        masks.append(np.isnan(ampute_values(data, 0.3, "mnar", random_state=0)["labs"])[has])
    assert all((mask == masks[0]).all() for mask in masks)
    before = np.isnan(labs[has])
    np.testing.assert_allclose((masks[0] & ~before).sum(axis=0), 0.3 * (~before).sum(axis=0), atol=0.51)


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        ({"mechanism": "mar"}, ["mechanism is 'mar'", "['mcar', 'mnar']"]),
        ({"mechanism": "mnar", "strength": "x"}, ["strength is 'x'", "finite number"]),
        ({"rate": True}, ["rate is True for 'a'"]),
    ],
)
def test_errors_of_single_values_say_what_is_due(options, pieces):
    with says(ValueError, *pieces):
        ampute_values({"a": np.ones((4, 3))}, **{"rate": 0.3, **options})


def test_single_values_keep_the_precision_of_floats_and_turn_integers_into_floats():
    left = ampute_values({"a": np.ones((40, 3), np.float32), "b": np.ones((40, 3), int)}, 0.25, random_state=0)
    assert (left["a"].dtype, left["b"].dtype) == (np.float32, np.float64)
    table = pd.DataFrame({"age": np.arange(40), "sex": ["f", "m"] * 20, "grade": [1.5, 2.5] * 20})
    left = ampute_values({"table": table}, 0.25, random_state=0)
    assert left["table"].isna().sum().tolist() == [10, 10, 10]
    assert left.kind("table") == "table"


def test_rows_that_are_missing_lose_nothing():
    labs = np.ones((40, 3))
    labs[::2] = np.nan
    left = ampute_values({"labs": labs}, 0.3, random_state=0)
    assert np.isnan(left["labs"][1::2]).sum(axis=0).tolist() == [6, 6, 6]
    assert left.present[:, 0].tolist() == [False, True] * 20


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        (sparse.csr_matrix(np.ones((4, 3))), ["modality 'a' is a CSR matrix", "zeros, not missing", ".toarray()"]),
        (["x", "y", "z", "w"], ["modality 'a' is strings", "a dict of rates"]),
        (np.ones((4, 1)), ["modality 'a' holds one value a sample, which is always kept", "ampute"]),
    ],
)
def test_what_has_no_single_values_says_so(values, pieces):
    with says(ValueError, *pieces):
        ampute_values({"a": values}, 0.3)
