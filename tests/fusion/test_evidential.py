"""Evidential fusion: opinions with an uncertainty, their combination, their loss, and the classifier that has them."""

import pickle
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from _tokens import WIDTH, draw, everyone, without
from _tokens import double as double
from _tokens import single as single
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch.distributions import Dirichlet, kl_divergence

from skfusion import JointFusionClassifier, JointFusionRegressor, MultimodalPretrainer
from skfusion.fusion import Evidential, Mean
from skfusion.fusion.evidential import EvidentialLoss, combined, digamma_of, divergence_from_uniform

SMALL = {"n_hidden": 16, "n_latent": 8, "dropout_rate": 0.1, "max_epochs": 20, "lr": 0.01}
NET = {"fusion": "evidential", "device": "cpu", "random_state": 0, **SMALL}


def combine(*alphas):
    """Combined α of some opinions, and its uncertainty."""
    log_alpha = combined(torch.stack(alphas) - 1)
    return log_alpha.exp(), Evidential.uncertainty(None, log_alpha)


def dempster(first, second):
    """α of two opinions as the paper has it: beliefs, uncertainties, and what is in conflict left out."""
    K = len(first)
    (b1, u1), (b2, u2) = (((alpha - 1) / alpha.sum(), K / alpha.sum()) for alpha in (first, second))
    conflict = b1.sum() * b2.sum() - (b1 * b2).sum()
    belief = (b1 * b2 + b1 * u2 + b2 * u1) / (1 - conflict)
    u = u1 * u2 / (1 - conflict)
    return belief * K / u + 1


def opinions(n, n_classes=3, seed=0, scale=4.0):
    return list(1 + scale * torch.rand(n, n_classes, generator=torch.Generator().manual_seed(seed)))


# The combination


def test_two_opinions_are_combined_to_golden_numbers():
    alpha, u = combine(torch.tensor([5.0, 2, 1]), torch.tensor([3.0, 1, 4]))
    np.testing.assert_allclose(alpha, [9.666666666666666, 2, 4], rtol=1e-12)
    np.testing.assert_allclose(u, 0.19148936170212766, rtol=1e-12)
    alpha, u = combine(torch.tensor([5.0, 2, 1]), torch.ones(3))
    np.testing.assert_allclose(alpha, [5, 2, 1], rtol=1e-12)
    np.testing.assert_allclose(u, 0.375, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_four_opinions_at_once_are_those_combined_pair_by_pair(n_classes):
    first, *others = alphas = opinions(4, n_classes)
    for other in others:
        first = dempster(first, other)
    alpha, u = combine(*alphas)
    torch.testing.assert_close(alpha, first, rtol=1e-12, atol=0)
    torch.testing.assert_close(u, n_classes / first.sum(), rtol=1e-12, atol=0)


def test_their_order_does_not_matter():
    alphas = opinions(4)
    expected, _ = combine(*alphas)
    for order in permutations(alphas):
        torch.testing.assert_close(combine(*order)[0], expected, rtol=1e-12, atol=0)


def test_the_vacuous_opinion_changes_no_bit_and_is_all_there_is_of_none():
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    fusion = Evidential({"a": WIDTH, "b": WIDTH, "c": WIDTH}, WIDTH)
    present = torch.tensor([[True, False, True]]).expand(5, -1)
    expected = fusion.decide(logits[:, [0, 2]], present[:, [0, 2]])
    for junk in (0.0, 1e3, float("nan"), float("inf")):
        logits[:, 1] = junk
        assert torch.equal(fusion.decide(logits, present), expected)
    nothing = fusion.decide(logits, torch.zeros_like(present))
    assert torch.equal(nothing, torch.zeros(5, 4))
    torch.testing.assert_close(fusion.uncertainty(nothing), torch.ones(5))


def test_a_single_opinion_is_its_evidence_plus_1():
    logits = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(0))
    fusion = Evidential({"a": WIDTH}, WIDTH)
    alpha = fusion.decide(logits, torch.ones(6, 1, dtype=torch.bool)).exp()
    torch.testing.assert_close(alpha, 1 + logits[:, 0].exp().log1p())


@pytest.mark.usefixtures("single")
def test_much_evidence_of_many_modalities_stays_finite():
    logits = torch.full((2, 40, 3), 1e6).requires_grad_()
    fusion = Evidential({f"m{m}": WIDTH for m in range(40)}, WIDTH)
    decided = fusion.decide(logits, torch.ones(2, 40, dtype=torch.bool))
    assert decided.isfinite().all()
    assert decided.min() > 400  # the logarithm of what float32 cannot hold
    EvidentialLoss()(decided, torch.tensor([0, 2])).sum().backward()
    assert logits.grad.isfinite().all()


def test_the_fused_embedding_is_the_mean_of_those_present():
    tokens = draw({"a": 2, "b": 3, "c": 1})
    fusion = Evidential(dict.fromkeys(tokens, WIDTH), WIDTH).eval()
    means = {name: t.values.mean(1) for name, t in tokens.items()}
    fused = fusion(tokens, everyone(tokens)).fused
    torch.testing.assert_close(fused, torch.stack(list(means.values())).mean(0))
    torch.testing.assert_close(fusion(tokens, without(tokens, "b")).fused, (means["a"] + means["c"]) / 2)


# The loss


def test_the_loss_is_what_is_computed_by_hand():
    # α = (4, 2, 3), S = 9, y = 0: ψ(9) - ψ(4) = 1/4 + 1/5 + 1/6 + 1/7 + 1/8. Without the truth α̃ = (1, 2, 3), whose
    # divergence is log 60 - log 2 + (ψ(2) - ψ(6)) + 2 (ψ(3) - ψ(6)), log Γ(6) / (Γ(1) Γ(2) Γ(3)) = log 60.
    prediction = torch.tensor([[4.0, 2.0, 3.0]]).log()
    expected = 1 / 4 + 1 / 5 + 1 / 6 + 1 / 7 + 1 / 8
    divergence = np.log(30) - (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) - 2 * (1 / 3 + 1 / 4 + 1 / 5)
    loss = EvidentialLoss(annealing=0.5)
    for progress, strength in ((0.0, 0.0), (0.125, 0.25), (0.5, 1.0), (1.0, 1.0)):
        loss.begin_epoch(progress)
        (found,) = loss(prediction, torch.tensor([0])).tolist()
        assert found == pytest.approx(expected + strength * divergence, rel=1e-12)
    loss.begin_epoch(0.0)
    (found,) = loss.eval()(prediction, torch.tensor([0])).tolist()
    assert found == pytest.approx(expected + divergence, rel=1e-12)
    EvidentialLoss(annealing=0.0).begin_epoch(0.0)


def test_label_smoothing_spreads_the_expected_cross_entropy():
    prediction, target = torch.stack(opinions(5)).log(), torch.tensor([0, 1, 2, 0, 1])
    plain, smooth = EvidentialLoss(), EvidentialLoss(label_smoothing=0.3)
    for loss in (plain, smooth):
        loss.begin_epoch(0.0)
    mean = torch.stack([plain(prediction, torch.full((5,), k)) for k in range(3)]).mean(0)
    torch.testing.assert_close(smooth(prediction, target), 0.7 * plain(prediction, target) + 0.3 * mean)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 20])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e2, 1e4])
def test_the_divergence_is_torch_s(n_classes, scale):
    alpha = torch.stack(opinions(6, n_classes, scale=scale))
    expected = kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha)))
    torch.testing.assert_close(divergence_from_uniform(alpha.log()), expected, rtol=1e-8, atol=1e-8)


def test_digamma_of_a_logarithm_goes_on_where_exp_does_not():
    log = torch.tensor([0.0, 1.0, 20.0, 26.0, 5000.0])
    torch.testing.assert_close(digamma_of(log)[:3], torch.digamma(log[:3].exp()))
    torch.testing.assert_close(digamma_of(log)[3:], log[3:])


# The classifier


def three_classes(n_samples=240, seed=0):
    """One table that knows the class well, one that knows a little of it, and one of noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % 3
    knows = rng.normal(size=(n_samples, 5)) + 3 * np.eye(3, 5)[y]
    hints = rng.normal(size=(n_samples, 4)) + np.eye(3, 4)[y]
    return {"knows": knows, "hints": hints, "noise": rng.normal(size=(n_samples, 3))}, np.array(["x", "y", "z"])[y]


@pytest.fixture(scope="module")
def fitted():
    torch.set_default_dtype(torch.float32)
    X, y = three_classes()
    return JointFusionClassifier(**NET).fit(X, y)


@pytest.mark.usefixtures("single")
class TestClassifier:
    def test_it_learns(self, fitted):
        X, y = three_classes(seed=1)
        assert fitted.score(X, y) > 0.9
        assert np.mean(fitted.predict(X, head="knows") == y) > 0.85
        assert 0.4 < np.mean(fitted.predict(X, head="hints") == y) < 0.8
        assert fitted.network_.head is None

    def test_probabilities_and_uncertainty_are_those_of_the_combined_opinions(self, fitted):
        X, _ = three_classes(seed=1)
        alphas = []
        for name in X:
            S = 3 / fitted.uncertainty(X, head=name)
            alphas.append(torch.from_numpy(fitted.predict_proba(X, head=name) * S[:, None]))
        alpha = combined(torch.stack(alphas, 1) - 1).exp().numpy()
        np.testing.assert_allclose(fitted.predict_proba(X), alpha / alpha.sum(axis=1, keepdims=True), rtol=1e-4)
        np.testing.assert_allclose(fitted.uncertainty(X), 3 / alpha.sum(axis=1), rtol=1e-4)

    def test_a_missing_modality_has_no_say_to_the_bit(self, fitted):
        X, _ = three_classes(60, seed=1)
        X["hints"][::2] = np.nan
        without_it = {name: values for name, values in X.items() if name != "hints"}
        for ask in (fitted.predict_proba, fitted.uncertainty):
            np.testing.assert_array_equal(ask(X)[::2], ask(without_it)[::2])
            assert (ask(X)[1::2] != ask(without_it)[1::2]).any()

    def test_a_modality_less_is_never_less_uncertain(self, fitted):
        X, _ = three_classes(seed=1)
        u = fitted.uncertainty(X)
        for name in X:
            less = fitted.uncertainty({other: values for other, values in X.items() if other != name})
            assert (less >= u).all()
        without_it = fitted.uncertainty({name: X[name] for name in ("hints", "noise")})
        assert np.median(without_it) > 3 * np.median(u)

    def test_samples_that_look_like_no_class_are_uncertain(self, fitted):
        X, _ = three_classes(seed=1)
        blank = {name: np.random.default_rng(2).normal(size=values.shape) for name, values in X.items()}
        assert np.median(fitted.uncertainty(blank)) > 1.3 * np.median(fitted.uncertainty(X))
        assert np.median(fitted.uncertainty(X, head="noise")) > 2 * np.median(fitted.uncertainty(X, head="knows"))

    def test_nothing_present_is_uncertainty_1_and_the_prior(self, fitted):
        X, _ = three_classes(9)
        nothing = {name: np.full_like(values, np.nan) for name, values in X.items()}
        nothing["noise"][3:] = 0.0
        np.testing.assert_array_equal(fitted.uncertainty(nothing)[:3], 1.0)
        assert (fitted.uncertainty(nothing)[3:] < 1).all()
        np.testing.assert_allclose(fitted.predict_proba(nothing)[:3], 1 / 3)
        np.testing.assert_array_equal(fitted.uncertainty(nothing, head="knows"), 1.0)
        assert fitted.uncertainty(X).shape == (9,)

    def test_it_pickles_and_clones_and_goes_on(self, fitted):
        X, y = three_classes()
        stored = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(stored.predict_proba(X), fitted.predict_proba(X))
        np.testing.assert_array_equal(stored.uncertainty(X), fitted.uncertainty(X))
        np.testing.assert_array_equal(clone(fitted).fit(X, y).predict_proba(X), fitted.predict_proba(X))
        assert np.isfinite(stored.partial_fit(X, y).predict_proba(X)).all()
        model = clone(fitted).set_params(fusion=partial(Evidential, annealing=0.1)).fit(X, y)
        assert model.net_.criterion_[0].criterion.annealing == 0.1
        assert model.net_.criterion_[0].criterion.strength == 1.0

    def test_the_regulariser_rises_with_the_training(self):
        X, y = three_classes(60)
        seen = []

        class Watching(EvidentialLoss):
            def begin_epoch(self, progress):
                super().begin_epoch(progress)
                seen.append(self.strength)

        class Watched(Evidential):
            def criterion(self, label_smoothing):
                assert label_smoothing == 0.2
                return Watching(self.annealing, label_smoothing)

        JointFusionClassifier(**{**NET, "fusion": Watched, "max_epochs": 5, "label_smoothing": 0.2}).fit(X, y)
        assert seen == [0.0, 0.5, 1.0, 1.0, 1.0]

    def test_weights_of_classes_and_samples_count(self):
        X, y = three_classes()
        X = {"hints": X["hints"]}
        plain = JointFusionClassifier(**NET).fit(X, y)
        by_class = JointFusionClassifier(**NET, class_weight={"x": 20, "y": 1, "z": 1}).fit(X, y)
        by_sample = JointFusionClassifier(**NET).fit(X, y, sample_weight=np.where(y == "x", 20.0, 1.0))
        for model in (by_class, by_sample):
            assert np.mean(model.predict(X) == "x") > np.mean(plain.predict(X) == "x") + 0.2

    @pytest.mark.parametrize(
        "params",
        [
            {"balance": "ogm"},
            {"early_stopping": True},
            {"modality_dropout": "curriculum", "objectives": ["ranking"]},
            {"criterion": torch.nn.CrossEntropyLoss},
            {"encoders": "shared"},
        ],
    )
    def test_it_goes_together_with_the_other_options(self, params):
        X, y = three_classes(120)
        model = JointFusionClassifier(**{**NET, **params}).fit(X, y)
        assert model.score(X, y) > 0.8
        assert np.ptp(model.uncertainty(X)) > 0.01

    def test_a_balance_that_compares_losses_over_time_is_refused(self):
        X, y = three_classes(60)
        with pytest.raises(ValueError, match=r"balance is 'gradient_blending'.*fusion='evidential'.*balance='ogm'"):
            JointFusionClassifier(**NET, balance="gradient_blending").fit(X, y)

    def test_its_fusion_comes_along_with_fewer_modalities(self, fitted):
        X, y = three_classes(60)
        some = {name: X[name] for name in ("noise", "knows")}
        options = {"fusion": "pretrained", "pretrained": FrozenEstimator(fitted)}
        model = JointFusionClassifier(**{**NET, **options}).fit(some, y)
        stored = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(stored.uncertainty(some), model.uncertainty(some))
        assert model.score(some, y) > 0.8
        with pytest.raises(ValueError, match=r"fusion is 'pretrained', which combines decisions about the classes"):
            JointFusionRegressor(**{**NET, **options}).fit(some, np.arange(60.0))

    def test_only_an_estimator_that_has_an_uncertainty_offers_it(self, fitted):
        X, y = three_classes(60)
        concat = JointFusionClassifier(**{**NET, "fusion": "concat", "max_epochs": 1})
        assert hasattr(fitted, "uncertainty")
        assert not hasattr(concat, "uncertainty")
        assert not hasattr(concat.fit(X, y), "uncertainty")
        for fusion in ("evidential", Evidential, partial(Evidential, annealing=0.2)):
            unfitted = JointFusionClassifier(fusion=fusion)
            assert hasattr(unfitted, "uncertainty")
            with pytest.raises(NotFittedError):
                unfitted.uncertainty(X)
        with pytest.raises(ValueError, match=r"head is 'c'; due is one of \['fusion', 'knows', 'hints', 'noise'\]"):
            fitted.uncertainty(X, head="c")

    def test_what_has_no_classes_of_one_output_says_what_is_due(self):
        X, y = three_classes(30)
        both = np.stack([y, y], axis=1)
        with pytest.raises(
            ValueError,
            match=r"fusion is 'evidential'.* but JointFusionClassifier was given a y of 2 outputs; due is a "
            r"JointFusionClassifier with y \(n_samples,\). Choose another fusion, such as 'mean', or fit one class",
        ):
            JointFusionClassifier(**NET).fit(X, both)
        with pytest.raises(ValueError, match=r"but JointFusionRegressor learns no classes; due is a JointFusionClass"):
            JointFusionRegressor(**NET).fit(X, np.arange(30.0))
        with pytest.raises(ValueError, match=r"but MultimodalPretrainer learns no classes; due is a JointFusionClass"):
            MultimodalPretrainer(**NET).fit(X)
        with pytest.raises(ValueError, match=r"fill_missing is 'token', but fusion='evidential' has what stands in"):
            JointFusionClassifier(**NET, fill_missing="token").fit(X, y)
        with pytest.raises(ValueError, match=r"annealing is 2; due is a share of the training, from 0 to 1"):
            JointFusionClassifier(**{**NET, "fusion": partial(Evidential, annealing=2)}).fit(X, y)

    @pytest.mark.parametrize("fusion", ["mean", partial(Mean)], ids=["name", "partial"])
    def test_a_fusion_that_tells_no_uncertainty_names_one_that_does(self, fusion):
        X, y = three_classes(30)
        other = JointFusionClassifier(**{**NET, "fusion": fusion, "max_epochs": 1})
        for estimator in (other, clone(other).fit(X, y)):
            assert not hasattr(estimator, "uncertainty")
            with pytest.raises(
                AttributeError, match=r"^fusion is .*[mM]ean.*, which tells no uncertainty; 'evidential' d"
            ):
                estimator.uncertainty(X)
