"""What holds for every strategy: odd data, draws, uncertainty; and embeddings, grids and pipelines around them."""

import pickle
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from _data import complete, has, with_gaps
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.overrides import TorchFunctionMode

from skfusion import EarlyFusionTransformer, JointFusionClassifier, Modalities, ModalityImputer
from skfusion.imputation import (
    GAN,
    STRATEGIES,
    VAE,
    Average,
    Conversion,
    Diffusion,
    Factor,
    Linear,
    Mean,
    Neighbors,
    Regressor,
    Zero,
)
from skfusion.imputation.generative import Generative, own_noise, shared_noise
from skfusion.imputation.networks import ResidualMLP
from skfusion.preprocessing import to_dense

SMALL = {"max_steps": 5, "n_hidden": 8, "n_layers": 1}
OLS = make_pipeline(EarlyFusionTransformer(), LinearRegression())
EVERY = {
    "conversion": Conversion(estimator=OLS),
    "linear": Linear(),
    "regressor": Regressor(Ridge()),
    "factor": Factor(2),
    "knn": Neighbors(),
    "mean": Mean(),
    "zero": Zero(),
    "vae": VAE(**SMALL),
    "gan": GAN(**SMALL, n_draws=2),
    "diffusion": Diffusion(**SMALL, n_diffusion_steps=5, n_draws=2),
    "average": Average([Linear(), "mean"]),
}
"""A small instance of each strategy, by its name."""
DISTRIBUTIONS = [name for name, strategy in EVERY.items() if hasattr(strategy, "draw")]
every_strategy = pytest.mark.parametrize("name", EVERY)
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)


def imputer(name, **params):
    return ModalityImputer(EVERY[name], **{"device": "cpu", "random_state": 0, **params})


FITTED = {}


def fitted(name):
    """Fitted on `TRAIN`, once; nobody changes it."""
    if name not in FITTED:
        FITTED[name] = imputer(name).fit(TRAIN)
    return FITTED[name]


TRAIN, NEW = with_gaps(complete()), with_gaps(complete(20, seed=1), share=0.5)


def test_there_is_a_small_instance_of_every_strategy():
    assert {n: f"{type(s).__module__}:{type(s).__name__}" for n, s in EVERY.items()} == STRATEGIES
    for strategy in EVERY.values():
        assert set(strategy._parameter_constraints) == set(strategy.get_params(deep=False))


def test_a_name_is_an_instance_with_its_defaults_and_an_instance_is_cloned():
    given = Neighbors()
    by_instance = ModalityImputer(given).fit(TRAIN)
    assert not hasattr(given, "X_")
    by_name = ModalityImputer("knn").fit(TRAIN)
    np.testing.assert_array_equal(by_name.transform(NEW)["b"], by_instance.transform(NEW)["b"])


# Odd data


def assert_filled(filled, X):
    for name, values in X.items():
        np.testing.assert_array_equal(filled[name][has(X, name)], values[has(X, name)])
        assert np.isfinite(filled[name]).all()


def in_every_way(imputer, X):
    """What fills by `transform`, and by a draw where there is one."""
    yield imputer.transform(X)
    if hasattr(imputer, "sample"):
        yield from imputer.sample(X)


@every_strategy
def test_a_sample_with_nothing_present_gets_the_training_means(name):
    nothing = {key: np.full((2, values.shape[1]), np.nan) for key, values in TRAIN.items()}
    for filled in in_every_way(fitted(name), nothing):
        assert_filled(filled, nothing)
    filled = fitted(name).transform(nothing)
    for key, values in TRAIN.items():
        due = np.zeros(values.shape[1]) if name == "zero" else np.nanmean(values, axis=0)
        np.testing.assert_allclose(filled[key], [due, due])


@every_strategy
def test_a_modality_that_nobody_has_in_training_raises(name):
    with pytest.raises(ValueError, match="modality 'b' is missing for every training sample"):
        imputer(name).fit({**complete(), "b": np.full((60, 3), np.nan)})


def mosaic(n_samples=200, seed=0):
    """One half has `a` and `b`, the other `b` and `c`."""
    X = complete(n_samples, seed)
    X["a"][n_samples // 2 :], X["c"][: n_samples // 2] = np.nan, np.nan
    return X


@every_strategy
def test_patterns_that_training_never_saw_are_filled(name):
    fitted, new = imputer(name).fit(mosaic()), complete(10, seed=1)
    for kept in ("a", "b", "c", "ac"):
        blind = {key: values if key in kept else np.full_like(values, np.nan) for key, values in new.items()}
        for filled in in_every_way(fitted, blind):
            assert_filled(filled, blind)


@every_distribution
def test_what_was_never_seen_beside_another_tells_nothing_and_is_drawn_as_in_training(name):
    X = complete(200)
    X["c"][:150], X["a"][150:], X["b"][150:] = np.nan, np.nan, np.nan
    fitted, new = imputer(name).fit(X), complete(40, seed=1)
    with_c, without = (fitted.transform({key: new[key] for key in kept})["b"] for kept in ("ac", "a"))
    np.testing.assert_allclose(with_c, without, atol=1e-5)
    np.testing.assert_allclose(fitted.transform({"c": new["c"]})["b"].std(axis=0), 0, atol=1e-5)
    drawn = fitted.sample({"a": np.repeat(new["a"], 10, axis=0)})[0]["c"]
    np.testing.assert_allclose(drawn.std(axis=0), X["c"][150:].std(axis=0), rtol=0.3)
    assert (fitted.uncertainty({"a": new["a"]})["c"] > 0.5 * X["c"][150:].std(axis=0)).all()


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_a_text_alone_is_nothing_to_networks_of_numbers(name):
    X = complete(60)
    X["a"][40:], X["b"][40:], X["c"][40:] = np.nan, np.nan, np.nan
    X["text"] = ["x", "y"] * 30
    filled = imputer(name).fit(X).transform(X)
    np.testing.assert_allclose(filled["a"][40:], np.tile(X["a"][:40].mean(axis=0), (20, 1)))


@every_strategy
def test_values_beyond_float32_leave_no_nan(name):
    new = complete(4)
    new["a"][0, 0] = 1e39
    del new["b"]
    assert np.isfinite(fitted(name).transform(new)["b"]).all()


@pytest.mark.parametrize("name", ["linear", "knn", "regressor", "conversion"])
def test_of_two_modalities_never_seen_together_one_says_nothing_of_the_other(name):
    X = mosaic()
    if name in ("regressor", "conversion"):
        # These see all others at once, `a` as missing: without `b` there is nothing to learn from.
        X = {key: X[key] for key in "ac"}
    filled = imputer(name).fit(X).transform({"a": complete(5, seed=1)["a"]})
    np.testing.assert_allclose(filled["c"], np.tile(np.nanmean(X["c"], axis=0), (5, 1)))


@pytest.mark.parametrize("name", ["knn", "vae", "gan", "diffusion"])
def test_draws_of_what_was_never_seen_together_are_training_samples(name):
    X = {key: mosaic(40)[key] for key in "ac"}
    fitted = imputer(name).fit(X)
    (drawn,) = fitted.sample({"a": np.r_[X["a"][:1].repeat(300, axis=0), np.full((300, 4), np.nan)]})
    nearest = np.abs(drawn["c"][:, None] - X["c"][None, 20:]).max(axis=2)
    assert (nearest.min(axis=1) < 1e-5).all()
    assert len(set(nearest.argmin(axis=1))) == 20
    # How far off a mean is that nothing is known of: as far as the training samples are spread.
    spread = fitted.uncertainty({"a": X["a"][:1]}, n_samples=300)["c"]
    np.testing.assert_allclose(spread, [np.nanstd(X["c"], axis=0)], rtol=0.2)


def test_a_latent_goes_by_the_third():
    new = complete(100, seed=1)
    filled = imputer("factor").fit(mosaic()).transform({"a": new["a"]})
    assert r2_score(new["c"], filled["c"]) > 0.4


@every_strategy
def test_wide_modalities_that_are_absent_are_filled(name):
    rng = np.random.default_rng(0)
    X = {"rna": sparse.csr_matrix(rng.poisson(1.0, size=(40, 600)).astype(float)), "wide": rng.normal(size=(40, 60))}
    fitted = imputer(name).fit({**X, "c": rng.normal(size=(40, 2))})
    for filled in in_every_way(fitted, {"c": np.zeros((3, 2))}):
        assert filled["rna"].shape == (3, 600)
        assert np.isfinite(filled["rna"].toarray()).all()
        assert np.isfinite(filled["wide"]).all()


@every_strategy
def test_a_csr_is_filled_as_the_same_values_dense_are(name):
    # More columns than samples, so that strategies project them.
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(30, 2))
    a, b = latent @ rng.normal(size=(2, 4)), 100 + latent @ rng.normal(size=(2, 60))
    found = [
        to_dense(imputer(name).fit({"a": a, "b": form(b)}).transform({"a": a[:5]})["b"])
        for form in (np.asarray, sparse.csr_matrix)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@every_strategy
def test_a_constant_column_is_filled_with_the_constant(name):
    X = {key: values.copy() for key, values in TRAIN.items()}
    X["b"][has(X, "b"), 1] = 1e-3
    for filled in in_every_way(imputer(name).fit(X), NEW):
        found = filled["b"][~has(NEW, "b"), 1]
        np.testing.assert_allclose(found, 0 if name == "zero" else 1e-3, rtol=1e-6)


@every_strategy
def test_a_single_modality_is_filled_with_its_mean(name):
    X = complete()["a"]
    fitted = imputer(name).fit(X)
    new = np.vstack([X[:2], np.full((1, 4), np.nan)])
    for filled in in_every_way(fitted, new):
        assert type(filled) is np.ndarray
        np.testing.assert_array_equal(filled[:2], X[:2])
        assert np.isfinite(filled).all()
    due = np.zeros(4) if name == "zero" else X.mean(axis=0)
    np.testing.assert_allclose(fitted.transform(new)[2], due)


@every_strategy
def test_what_a_sample_is_filled_with_depends_on_it_alone(name):
    whole = fitted(name).transform(NEW)
    for row in range(4):
        alone = fitted(name).transform({key: values[[row]] for key, values in NEW.items()})
        for key in NEW:
            np.testing.assert_allclose(alone[key][0], whole[key][row], rtol=1e-4, atol=1e-5)


@every_strategy
def test_labels_have_no_say(name):
    other = imputer(name).fit(TRAIN, np.arange(60) % 2).transform(NEW)
    for key in NEW:
        np.testing.assert_array_equal(other[key], fitted(name).transform(NEW)[key])


# Draws


@every_distribution
def test_draws_differ_and_repeat_with_the_seed(name):
    first, second = fitted(name).sample(NEW, 2)
    again = fitted(name).sample(NEW, 2)
    (other,) = clone_of(fitted(name)).set_params(random_state=1).sample(NEW)
    for key in NEW:
        gone = ~has(NEW, key) & np.any([has(NEW, k) for k in NEW if k != key], axis=0)
        assert gone.any()
        assert_filled(first, NEW)
        assert (first[key][gone] != second[key][gone]).any()
        assert (first[key][gone] != other[key][gone]).any()
        np.testing.assert_array_equal(first[key], again[0][key])
        np.testing.assert_array_equal(second[key], again[1][key])


def clone_of(fitted):
    """A shallow copy, fitted as well."""
    copied = clone(fitted)
    vars(copied).update(vars(fitted))
    return copied


@every_distribution
def test_a_draw_has_the_form_of_what_transform_returns(name):
    as_array = clone_of(fitted(name)).set_params(output="array")
    (drawn,) = as_array.sample(NEW)
    assert drawn.shape == (20, 9)
    X = complete(5, seed=2)
    np.testing.assert_array_equal(as_array.sample(X)[0], np.hstack(list(X.values())))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in DISTRIBUTIONS])
def test_what_is_no_distribution_says_which_are(name):
    message = r"is no distribution; those that are: \['factor', 'knn', 'vae', 'gan', 'diffusion'\]"
    assert not hasattr(fitted(name), "sample")
    with pytest.raises(AttributeError, match=message):
        _ = ModalityImputer(name).sample
    with pytest.raises(AttributeError, match=message):
        fitted(name).uncertainty(NEW)


@pytest.mark.parametrize("n_samples", [0, 1.5, "2"])
def test_a_number_of_draws_that_makes_no_sense_raises(n_samples):
    with pytest.raises(ValueError, match=f"n_samples is {n_samples!r}; due is a whole number from 1 on"):
        fitted("knn").sample(NEW, n_samples)
    with pytest.raises(ValueError, match="n_samples is 1; due is a whole number from 2 on"):
        fitted("vae").uncertainty(NEW, n_samples=1)


# Noise of the generative strategies


class Odd(Generative):
    """What it draws is nothing but the noise."""

    def __init__(self, n_draws=2):
        self.n_draws = n_draws
        self.n_components = None

    def _train(self, table, present, verbose):
        return "trained"

    def _generate(self, table, given, noise):
        return noise(table, table.shape[1]) / 10


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_all_that_samples_lack_is_filled_as_each_by_itself(name, monkeypatch):
    new = {key: np.r_[values, np.full((1, values.shape[1]), np.nan)] for key, values in NEW.items()}
    found = fitted(name).transform(new)
    monkeypatch.delattr(Generative, "fill_all")
    due = fitted(name).transform(new)
    for key in new:
        np.testing.assert_allclose(found[key], due[key], rtol=1e-5, atol=1e-6)


def test_a_network_runs_once_for_all_that_samples_lack(monkeypatch):
    calls = []
    generate = Odd._generate
    monkeypatch.setattr(Odd, "_generate", lambda self, *given: calls.append(1) or generate(self, *given))
    ModalityImputer(Odd(4), device="cpu", random_state=0).fit(TRAIN).transform(NEW)
    assert len(calls) == 4


@pytest.mark.parametrize(("n_draws", "cancels"), [(1, False), (2, True), (3, False), (4, True)])
def test_noise_comes_with_its_negative(n_draws, cancels):
    filled = ModalityImputer(Odd(n_draws), device="cpu", random_state=0).fit(TRAIN).transform({"a": NEW["a"]})["b"]
    rows = has(NEW, "a")
    due = np.nanmean(TRAIN["b"], axis=0)
    assert np.allclose(filled[rows], due, rtol=1e-6) == cancels
    # All samples share the noise.
    np.testing.assert_array_equal(filled[rows], np.tile(filled[rows][0], (rows.sum(), 1)))


def test_a_draw_has_noise_of_its_own_for_each_sample():
    drawn = ModalityImputer(Odd(), device="cpu", random_state=0).fit(TRAIN).sample({"a": NEW["a"]})[0]["b"]
    assert len(np.unique(drawn[:, 0])) == 20
    assert own_noise(torch.zeros(3, 1), 2).shape == (3, 2)
    torch.manual_seed(0)
    positive = shared_noise(torch.zeros(3, 1), 2, sign=1)
    torch.manual_seed(0)
    torch.testing.assert_close(shared_noise(torch.zeros(3, 1), 2, sign=-1), -positive)


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_a_network_sends_nothing_far_out(name):
    far = {"a": np.full((3, 4), 1e6)}
    for filled in in_every_way(fitted(name), far):
        for key in "bc":
            low, high = np.nanmin(TRAIN[key], axis=0), np.nanmax(TRAIN[key], axis=0)
            middle = (high - low) / 2
            assert (filled[key] >= low - middle - 1e-3).all()
            assert (filled[key] <= high + middle + 1e-3).all()


# Uncertainty


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_uncertainty_is_the_spread_of_draws_and_nothing_where_a_modality_is_present(name):
    found, draws = fitted(name).uncertainty(NEW, n_samples=3), fitted(name).sample(NEW, 3)
    assert not hasattr(fitted(name), "uncertainty_")
    for key in NEW:
        due = np.std([draw[key] for draw in draws], axis=0, ddof=1)
        np.testing.assert_allclose(found[key], due, atol=1e-12)
        assert not found[key][has(NEW, key)].any()


def test_uncertainty_by_formula_draws_nothing():
    found, again = (fitted("factor").uncertainty(NEW, n_samples=n) for n in (2, 50))
    for key in NEW:
        np.testing.assert_array_equal(found[key], again[key])
        assert not found[key][has(NEW, key)].any()
        assert (found[key][~has(NEW, key)] > 0).all()
        assert fitted("factor").uncertainty_[key].shape == found[key].shape[1:]


def test_many_draws_are_not_held_at_once(monkeypatch):
    held, at_once = [], []
    lay_out = ModalityImputer._laid_out

    def counted(self, known, fill):
        tables = lay_out(self, known, fill)
        held.append([weakref.ref(table) for table in tables.values()])
        at_once.append(sum(any(table() is not None for table in tables) for tables in held))
        return tables

    monkeypatch.setattr(ModalityImputer, "_laid_out", counted)
    fitted("vae").uncertainty(NEW, n_samples=8)
    assert len(held) == 8
    assert max(at_once) <= 2


def test_the_mean_uncertainty_needs_no_table_of_all_samples(monkeypatch):
    monkeypatch.delattr(Factor, "spread")
    assert set(ModalityImputer(Factor(2)).fit(TRAIN).uncertainty_) == set(TRAIN)


# Fitted again, pickled, and elsewhere


def test_fitting_again_forgets_what_the_first_strategy_knew():
    imputer = ModalityImputer("factor", encoders={"a": PCA(2)}).fit(TRAIN)
    assert {"uncertainty_", "encoders_"} <= set(vars(imputer))
    imputer.set_params(strategy="mean", encoders=None).fit(TRAIN)
    assert not {"uncertainty_", "encoders_"} & set(vars(imputer))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device to go back to")
@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_what_was_fitted_on_a_device_that_is_not_here_works_on_the_cpu(name):
    elsewhere = pickle.loads(pickle.dumps(fitted(name)))
    elsewhere.strategy_.device_ = torch.device("cuda")
    found = pickle.loads(pickle.dumps(elsewhere))
    assert found.strategy_.device_ == torch.device("cpu")
    for key in NEW:
        np.testing.assert_array_equal(found.transform(NEW)[key], fitted(name).transform(NEW)[key])


class Order(TorchFunctionMode):
    """Notes when tensors go to the CPU, and when they become float64."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.cpu, torch.Tensor.double):
            self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_float64_comes_after_the_way_to_the_cpu_since_not_every_device_has_it(name):
    with Order() as order:
        fitted(name).transform(NEW)
        fitted(name).sample(NEW)
    assert order.seen
    assert order.seen == ["cpu", "double"] * (len(order.seen) // 2)


def test_joint_fusion_goes_the_same_way():
    X, y = complete(), np.arange(60) % 2
    with Order() as order:
        clone(JOINT).fit(X, y).predict_proba(X)
    before_double = [first for first, second in pairwise(order.seen) if second == "double"]
    assert len(before_double) > 1
    assert set(before_double) == {"cpu"}


# What is hidden in training


@pytest.mark.parametrize(("name", "flags"), [("gan", slice(9, 15)), ("diffusion", slice(18, 24))])
def test_what_a_network_is_asked_in_a_mosaic_it_was_trained_on(name, flags, monkeypatch):
    seen, forward = [], ResidualMLP.forward

    def noted(self, x):
        if x.shape[1] >= flags.stop and self.last.out_features == 9:
            seen.append({tuple(row) for row in x[:, flags].detach().int().tolist()})
        return forward(self, x)

    monkeypatch.setattr(ResidualMLP, "forward", noted)
    strategy = clone(EVERY[name]).set_params(max_steps=40)
    imputer = ModalityImputer(strategy, device="cpu", random_state=0).fit(mosaic())
    trained = set.union(*seen)
    for kept in ("a", "b", "c", ""):
        seen.clear()
        new = {key: values if key in kept else np.full_like(values, np.nan) for key, values in complete(5).items()}
        imputer.sample(new)
        asked = set.union(*seen)
        assert asked == {tuple(int(key not in kept) for key in "abc") + tuple(int(key in kept) for key in "abc")}
        assert asked <= trained


# Embeddings


def test_transformers_embed_what_is_then_filled():
    found = ModalityImputer("linear", encoders={"a": PCA(2)}, random_state=0).fit(TRAIN)
    pca = PCA(2).fit(TRAIN["a"][has(TRAIN, "a")])

    def embedded(X):
        table = np.full((len(X["a"]), 2), np.nan)
        table[has(X, "a")] = pca.transform(X["a"][has(X, "a")])
        return {**X, "a": table}

    by_hand = ModalityImputer("linear", random_state=0).fit(embedded(TRAIN))
    for key in NEW:
        np.testing.assert_allclose(found.transform(NEW)[key], by_hand.transform(embedded(NEW))[key], rtol=1e-8)
    assert found.score_modalities(NEW) == pytest.approx(by_hand.score_modalities(embedded(NEW)))
    names = clone_of(found).set_params(output="array").get_feature_names_out()
    assert names.tolist() == ["a__0", "a__1", "b__0", "b__1", "b__2", "c__0", "c__1"]


def test_the_parameters_of_a_transformer_are_within_reach():
    imputer = ModalityImputer("mean", encoders={"a": PCA(2)}).set_params(a__n_components=1)
    assert imputer.fit(TRAIN).transform(NEW)["a"].shape == (20, 1)


def test_a_torch_module_embeds_and_is_not_trained():
    module = nn.Linear(4, 3)
    before = module.weight.detach().clone()
    fitted = ModalityImputer("linear", encoders={"a": module}, device="cpu").fit(TRAIN)
    filled = fitted.transform(NEW)
    rows = has(NEW, "a")
    due = module(torch.from_numpy(NEW["a"][rows].astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(filled["a"][rows], due, rtol=1e-5)
    assert np.isfinite(filled["a"]).all()
    torch.testing.assert_close(module.weight.detach(), before)


JOINT = JointFusionClassifier(n_hidden=8, n_latent=4, max_epochs=2, device="cpu", random_state=0)


def test_a_frozen_network_embeds_as_it_was_fitted():
    X = complete()
    joint = clone(JOINT).fit(X, np.arange(60) % 2)
    fitted = ModalityImputer("linear", encoders=FrozenEstimator(joint)).fit(TRAIN)
    filled = fitted.transform(NEW)
    for key in NEW:
        rows = has(NEW, key)
        np.testing.assert_allclose(filled[key][rows], joint.embed(NEW, key)[rows], rtol=1e-5)
        assert filled[key].shape == (20, 4)
    embedded = {key: np.where(has(NEW, key)[:, None], joint.embed(NEW, key), np.nan) for key in NEW}
    for key, score in fitted.score_modalities(NEW).items():
        rows = has(NEW, key)
        blind = {k: np.where(k == key, np.nan, values[rows]) for k, values in NEW.items()}
        assert 1 - score == pytest.approx(1 - r2_score(embedded[key][rows], fitted.transform(blind)[key]))


def test_a_network_that_is_not_frozen_is_fitted_here():
    fitted = ModalityImputer("mean", encoders=JOINT).fit(TRAIN, np.arange(60) % 2)
    assert not hasattr(JOINT, "net_")
    assert fitted.transform(NEW)["a"].shape == (20, 4)


def test_encoders_of_unknown_modalities_raise():
    with pytest.raises(ValueError, match=r"encoders names the modalities \['z'\], which X lacks"):
        ModalityImputer("mean", encoders={"z": PCA(1)}).fit(TRAIN)


# Grids and pipelines


def test_a_grid_over_names_finds_the_one_that_fits():
    search = GridSearchCV(ModalityImputer(), {"strategy": ["mean", "zero", "linear"]}, cv=3)
    search.fit(Modalities(complete(150)))
    assert search.best_params_ == {"strategy": "linear"}
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][0], 0, atol=0.05)


def test_a_grid_over_parameters_of_a_strategy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 9)) + 0.3 * rng.normal(size=(300, 9))
    X = Modalities(dict(zip("abc", np.split(x, [4, 7], axis=1))))
    search = GridSearchCV(ModalityImputer(Factor()), {"strategy__n_components": [1, 2]}, cv=3).fit(X)
    assert search.best_params_ == {"strategy__n_components": 2}
    assert np.diff(search.cv_results_["mean_test_score"]) > 0.1


def test_a_grid_over_the_imputer_inside_a_pipeline():
    X = complete(120)
    y = (X["a"][:, 0] + X["b"][:, 0] > 6).astype(int)
    model = make_pipeline(ModalityImputer(output="array"), StandardScaler(), LogisticRegression())
    grid = {"modalityimputer__strategy": ["zero", Linear(), Neighbors(3)]}
    search = GridSearchCV(model, grid, cv=3).fit(Modalities(with_gaps(X)), y)
    assert not isinstance(search.best_params_["modalityimputer__strategy"], str)
    assert search.predict(NEW).shape == (20,)


# Errors


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Linear(-1), "'alpha' parameter"),
        (Linear("best"), "'alpha' parameter"),
        (Linear(min_samples=0), "'min_samples' parameter"),
        (Factor(0), "'n_components' parameter"),
        (Factor(tol=-1), "'tol' parameter"),
        (Neighbors(pick="worst"), "'pick' parameter"),
        (Regressor(StandardScaler()), "'estimator' parameter"),
        (VAE(n_latent=0), "'n_latent' parameter"),
        (Diffusion(n_diffusion_steps=1), "'n_diffusion_steps' parameter"),
        (GAN(n_draws=0), "'n_draws' parameter"),
    ],
)
def test_parameters_of_a_strategy_that_make_no_sense_raise(strategy, message):
    with pytest.raises(ValueError, match=message):
        ModalityImputer(strategy).fit(TRAIN)
