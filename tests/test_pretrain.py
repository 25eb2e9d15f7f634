"""The pretrainer's own interface; what every estimator obeys is in the contracts."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skfusion import Modalities, MultimodalPretrainer, _retrieval
from skfusion.objectives import Contrastive, Reconstruction

SMALL = {"n_latent": 8, "n_hidden": 16, "max_epochs": 3, "device": "cpu", "random_state": 0}
N = 160


def draw(n_samples=N, seed=0):
    """Three modalities of one latent; `c` is missing for a quarter of the samples."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_samples, 3))
    maps = np.random.default_rng(7).normal(size=(3, 3, 6))
    X = {name: latent @ m + 0.1 * rng.normal(size=(n_samples, 6)) for name, m in zip("abc", maps)}
    X["c"][rng.permutation(n_samples)[: n_samples // 4]] = np.nan
    return X


X = draw()
PAIR = {"a": X["a"], "b": X["b"]}


@pytest.fixture(scope="module")
def fitted():
    return MultimodalPretrainer(**SMALL).fit(X)


# Objectives


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_labels_never_matter(method):
    y = np.arange(N) % 3
    found = [
        getattr(MultimodalPretrainer(**SMALL), method)(PAIR, labels).transform(PAIR)
        for labels in (None, y, np.random.default_rng(0).permutation(y), np.full(N, "one"))
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(
    ("data", "objective"),
    [
        (PAIR, "contrastive"),
        ({"a": X["a"]}, "reconstruction"),
        (X["a"], "reconstruction"),
        ({"a": np.where(np.arange(N)[:, None] % 2, X["a"], np.nan),
          "b": np.where(np.arange(N)[:, None] % 2, np.nan, X["b"])}, "reconstruction"),
    ],
    ids=["pairs", "one modality", "array", "no sample has two"],
)  # fmt: skip
def test_auto_goes_by_what_samples_have(data, objective):
    assert list(MultimodalPretrainer(**SMALL).fit(data).objectives_) == [objective]


def test_losses_are_told_by_name_and_weighted(fitted):
    assert "train_loss_of_contrastive" in fitted.history_[0]
    both = MultimodalPretrainer(["contrastive", Reconstruction(n_hidden=4)], weights={"reconstruction": 0.25}, **SMALL)
    row = both.fit(X).history_[-1]
    total = row["train_loss_of_contrastive"] + 0.25 * row["train_loss_of_reconstruction"]
    # Means over batches of unequal size: those of the parts go by the samples that they concern.
    assert row["train_loss"] == pytest.approx(total, rel=0.02)
    assert list(both.objectives_) == ["contrastive", "reconstruction"]
    assert both.n_iter_ == len(both.history_) == 3


def test_a_weight_of_nothing_switches_an_objective_off():
    alone = MultimodalPretrainer(["reconstruction"], dropout_rate=0.0, **SMALL).fit(PAIR)
    for name in ("reconstruction", "contrastive"):
        specs = [Reconstruction(), Contrastive()]
        other = MultimodalPretrainer(specs, weights={name: 0.0}, dropout_rate=0.0, **SMALL).fit(PAIR)
        loss = other.history_[0]["train_loss"]
        left = "contrastive" if name == "reconstruction" else "reconstruction"
        assert loss == pytest.approx(other.history_[0][f"train_loss_of_{left}"], rel=1e-5)
    assert alone.history_[0]["train_loss"] == pytest.approx(alone.history_[0]["train_loss_of_reconstruction"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": {"clip": 2.0}}, ValueError, r"weights names 'clip', .* these are \['contrastive'\]"),
        ({"objectives": []}, ValueError, "objectives is empty; due is at least one, or 'auto'"),
        ({"objectives": ["nonsense"]}, ValueError, "objectives is 'nonsense'; due is one of"),
        ({"objectives": ["ranking"]}, ValueError, "objectives holds 'ranking', which learns from a target"),
        (
            {"weights": {"contrastive": -1}},
            ValueError,
            r"weights\['contrastive'\] is -1; due is a number of at least 0",
        ),
        ({"weights": {"contrastive": np.nan}}, ValueError, r"weights\['contrastive'\] is nan; due is"),
        ({"weights": {"contrastive": "2"}}, ValueError, r"weights\['contrastive'\] is '2'; due is"),
        ({"objectives": [object()]}, TypeError, "which has no views"),
        ({"objectives": "contrastive"}, ValueError, "The 'objectives' parameter"),
        ({"rehearsal": 1.5}, ValueError, "The 'rehearsal' parameter"),
        ({"modality_dropout": {"z": 0.5}}, ValueError, r"modality_dropout names the modalities \['z'\]"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        MultimodalPretrainer(**{**SMALL, **options}).fit(PAIR)


def test_small_batches_are_warned_of_once():
    few = {name: values[:12] for name, values in PAIR.items()}
    for method in ("fit", "partial_fit"):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            getattr(MultimodalPretrainer(**SMALL), method)(few)
        (only,) = said
        assert "batches of 12 samples hold about 12 that have two modalities" in str(only.message)
        assert only.filename == __file__
        assert "'reconstruction' and 'masked' learn from each modality by itself" in str(only.message)
    with pytest.warns(UserWarning, match="batches of 8 samples .* Use a larger batch_size"):
        MultimodalPretrainer(batch_size=8, **SMALL).fit(PAIR)
    # Nothing is said where nothing is contrasted, or with what came before.
    MultimodalPretrainer(["reconstruction"], **SMALL).fit(few)
    MultimodalPretrainer([Contrastive(n_memory=64)], **SMALL).fit(few)


def unpaired():
    odd = np.arange(N)[:, None] % 2 == 1
    return {"a": np.where(odd, X["a"], np.nan), "b": np.where(odd, np.nan, X["b"])}


@pytest.mark.parametrize("objective", ["cca", "matching", "cross_masked", "conversion", "alignment", "mil_nce"])
def test_objectives_that_concern_no_sample_are_refused_after_an_epoch(objective):
    pretrainer = MultimodalPretrainer([objective], **{**SMALL, "max_epochs": 10**9})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=rf"\['{objective}'\] concern no sample: 0 of 160 have two modalities"):
            pretrainer.fit(unpaired())
    assert not hasattr(pretrainer, "net_")


def test_an_objective_that_concerns_no_sample_beside_others_is_warned_of():
    with pytest.warns(UserWarning, match=r"the objectives \['matching'\] concern no sample") as said:
        MultimodalPretrainer(["masked", "matching"], **SMALL).fit(unpaired())
    assert [warning.filename for warning in said] == [__file__]
    with pytest.warns(UserWarning, match=r"no sample has two modalities or more, so that \['contrastive'\]") as said:
        MultimodalPretrainer(["contrastive"], **SMALL).fit(unpaired())
    assert [warning.filename for warning in said] == [__file__]


# Embeddings


@pytest.mark.parametrize("names", ["a", "b", "c", "ab", "bc", "ac", "abc"])
def test_every_head_of_every_subset(fitted, names):
    some = {name: X[name] for name in names}
    there = {name: ~np.isnan(X[name]).any(axis=1) if name in names else np.zeros(N, dtype=bool) for name in "abc"}
    anything = np.any(list(there.values()), axis=0)
    for head, mean in fitted.embedding_means_.items():
        found = fitted.embed(some, head)
        assert found.shape == (N, 8)
        assert found.dtype == np.float32
        present = there.get(head, anything)
        np.testing.assert_array_equal(found[~present], np.broadcast_to(mean, found[~present].shape))
        assert not present.any() or np.ptp(found[present], axis=0).max() > 1e-3
        if head in names:  # Zorro's heads see nothing of the others
            np.testing.assert_allclose(found[present], fitted.embed({head: X[head]}, head)[present], atol=1e-5)
    np.testing.assert_array_equal(fitted.transform(some), fitted.embed(some, "fusion"))


def test_an_unknown_head_is_refused(fitted):
    with pytest.raises(ValueError, match=r"head is 'z'; due is one of \['a', 'b', 'c', 'fusion', 'global'\]"):
        fitted.embed(X, "z")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"fusion": X["a"], "b": X["b"]}, "a modality is called 'fusion', which is the name of a head"),
        ({"a": np.full((20, 2), np.nan)}, "no sample of X has any of the modalities"),
        ({"a": X["a"], "b": np.full((N, 2), np.nan)}, "modality 'b' is missing for every training sample"),
        ({"a": np.where(X["a"] > 2, np.inf, X["a"])}, "modality 'a'"),
        ({"a": X["a"], "b": X["b"][:9]}, "'b'"),
    ],
)
def test_bad_input_is_refused_at_fit(data, message):
    with pytest.raises(ValueError, match=message):
        MultimodalPretrainer(**SMALL).fit(data)


def test_bad_input_is_refused_after_fit(fitted):
    for method in (fitted.transform, fitted.embed):
        with pytest.raises(ValueError, match=r"X has no known modality: it has \['z'\]"):
            method({"z": X["a"]})
        with pytest.raises(ValueError, match="modality 'a' has samples of shape"):
            method({"a": X["a"][:, :2]})


def test_empty_samples_are_left_out_of_training():
    gone = {name: np.where(np.arange(N)[:, None] < 5, np.nan, values) for name, values in PAIR.items()}
    with pytest.warns(UserWarning, match="5 of 160 samples have no modality present") as said:
        found = MultimodalPretrainer(**SMALL).fit(gone)
    assert [warning.filename for warning in said] == [__file__]
    expected = MultimodalPretrainer(**SMALL).fit({name: values[5:] for name, values in PAIR.items()})
    np.testing.assert_array_equal(found.transform(PAIR), expected.transform(PAIR))


# Retrieval


def test_retrieve_finds_partners_and_marks_those_who_cannot_ask():
    # A few narrow layers do not tell 300 samples of a latent of three apart.
    wide = {"n_latent": 32, "n_hidden": 32, "max_epochs": 40, "lr": 0.005, "dropout_rate": 0.0}
    data = draw(300)
    found = MultimodalPretrainer(**{**SMALL, **wide}).fit(data)
    there = ~np.isnan(data["c"]).any(axis=1)
    result = found.retrieve(data, by="c", of="a", k=3)
    assert result.indices.shape == result.similarities.shape == (300, 3)
    assert result.similarities.dtype == np.float32
    assert (result.indices[~there] == -1).all()
    assert np.isnan(result.similarities[~there]).all()
    assert np.mean(result.indices[there, 0] == np.flatnonzero(there)) > 0.5
    assert (np.diff(result.similarities[there], axis=1) <= 0).all()
    assert np.isin(found.retrieve(data, by="a", of="c", k=5).indices, np.flatnonzero(there)).all()
    itself = found.retrieve(data, by="fusion", of="fusion", k=1)
    np.testing.assert_array_equal(itself.indices[:, 0], np.arange(300))


def test_retrieve_gives_all_there_are_and_goes_by_blocks(fitted, monkeypatch):
    n_with_c = int((~np.isnan(X["c"]).any(axis=1)).sum())
    whole = fitted.retrieve(X, by="a", of="c", k=10_000)
    assert whole.indices.shape == (N, n_with_c)
    assert all(len(set(row)) == n_with_c for row in whole.indices)
    monkeypatch.setattr(_retrieval, "BLOCK", 7)
    parts = fitted.retrieve(X, by="a", of="c", k=10_000)
    np.testing.assert_allclose(parts.similarities, whole.similarities, atol=1e-5)


def test_what_cannot_be_retrieved_is_said(fitted):
    with pytest.raises(ValueError, match="by is 'z'; due is one of"):
        fitted.retrieve(X, by="z", of="a")
    with pytest.raises(ValueError, match="of is 'global'; due is one of"):
        fitted.retrieve(X, by="a", of="global")
    for k in (0, -1, 2.5, "3", None):
        with pytest.raises(ValueError, match=f"k is {k!r}; due is a whole number of at least 1"):
            fitted.retrieve(X, by="a", of="c", k=k)
    with pytest.raises(ValueError, match="no sample of X has 'c'"):
        fitted.retrieve(PAIR, by="a", of="c")
    nobody = fitted.retrieve({"a": X["a"]}, by="c", of="a", k=2)
    assert (nobody.indices == -1).all()
    alone = MultimodalPretrainer(["reconstruction"], **SMALL).fit(PAIR)
    with pytest.raises(ValueError, match=r"the objectives \['reconstruction'\] do not bring together"):
        alone.retrieve(PAIR, by="a", of="b")


# Training


def test_early_stopping_holds_samples_out_and_stops():
    options = {**SMALL, "max_epochs": 60, "lr": 0.05, "n_iter_no_change": 2, "objectives": ["reconstruction"]}
    noise = {"a": np.random.default_rng(0).normal(size=(N, 6))}
    stopped = MultimodalPretrainer(early_stopping=True, **options).fit(noise)
    assert "valid_loss" in stopped.history_[0]
    assert stopped.n_iter_ < 60
    assert "valid_loss" not in MultimodalPretrainer(**SMALL).fit(noise).history_[0]
    few = {"a": noise["a"][:40]}
    assert "valid_loss" not in MultimodalPretrainer(early_stopping=True, **SMALL).fit(few).history_[0]


def test_warm_start_goes_on():
    going = MultimodalPretrainer(["reconstruction"], warm_start=True, **SMALL).fit(PAIR)
    first = going.transform(PAIR)
    network = going.network_
    going.set_params(lr=1e-12, weight_decay=0.0).fit(PAIR)
    assert going.n_iter_ == 6
    assert going.network_ is not network
    np.testing.assert_allclose(going.transform(PAIR), first, atol=1e-5)
    going.set_params(lr=0.01).fit({"a": X["a"]})
    assert going.modality_names_in_.tolist() == ["a", "b"]
    assert not np.allclose(going.transform(PAIR), first, atol=1e-3)
    anew = MultimodalPretrainer(["reconstruction"], **SMALL).fit(X).fit(PAIR)
    np.testing.assert_array_equal(anew.transform(PAIR), first)


def test_warm_start_goes_on_with_the_same_objectives():
    going = MultimodalPretrainer(["reconstruction"], warm_start=True, **SMALL).fit(PAIR)
    expected = going.transform(PAIR)
    with pytest.raises(ValueError, match=r"objectives are \['masked'\], but .* those of the last one, \['reconstr"):
        going.set_params(objectives=["masked"]).fit(PAIR)
    with pytest.raises(ValueError, match="weights names 'masked', which is no objective here"):
        going.set_params(objectives=["reconstruction"], weights={"masked": 1.0}).fit(PAIR)
    np.testing.assert_array_equal(going.transform(PAIR), expected)


def test_objectives_are_searched_in_a_pipeline_over_processes():
    data = draw()
    y = (np.nan_to_num(data["a"]) @ np.ones(6) > 0).astype(int)
    grid = GridSearchCV(
        make_pipeline(MultimodalPretrainer(**SMALL), LogisticRegression(max_iter=500)),
        {"multimodalpretrainer__objectives": [["contrastive"], ["reconstruction"], "auto"]},
        cv=2,
        n_jobs=2,
        error_score="raise",
    ).fit(Modalities(data), y)
    scores = grid.cv_results_["mean_test_score"]
    assert scores[0] == scores[2]
    assert scores.min() > 0.6
    np.testing.assert_array_equal(grid.predict(Modalities(data)), grid.best_estimator_.predict(data))
