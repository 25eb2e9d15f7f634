"""Multi-block PLS: sparse components of each modality that agree with the target and with each other."""

import numbers
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, training_rows
from skfusion._combine import combine
from skfusion._compat import integer, real
from skfusion._multiblock import Discriminant, fit_directions, project
from skfusion._targets import class_prior, training_set
from skfusion.modalities import Modalities, check_modalities
from skfusion.preprocessing import FittedOnPresent, table_preprocessor, to_dense


class _MultiBlock(FusionEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "n_components": [integer(1)],
        "n_features": [integer(1), dict, None],
        "design": [real(0)],
        "scale": ["boolean"],
        "max_iter": [integer(1)],
        "tol": [real(0)],
    }

    def __init__(
        self,
        n_components: int = 2,
        n_features: Any = None,
        *,
        design: float = 0.1,
        modalities: Any = None,
        scale: bool = True,
        max_iter: int = 500,
        tol: float = 1e-9,
    ) -> None:
        self.n_components = n_components
        self.n_features = n_features
        self.design = design
        self.modalities = modalities
        self.scale = scale
        self.max_iter = max_iter
        self.tol = tol

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Find the components, and what each modality's say of the target.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : array-like of shape (n_samples,)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights; those of weight 0 are left out. Scaling knows none.

        Returns
        -------
        self
            The fitted estimator.
        """
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, numeric=not self._is_classifier, multi_output=False)
        X, goal = data.X, self._learn_target(data.y, data.sample_weight)
        self._prepared: dict[str, FittedOnPresent] = {}
        self._directions: dict[str, Any] = {}
        self._models: dict[str, Any] = {}
        self.weights_: dict[str, pd.DataFrame] = {}
        self.votes_ = pd.Series(dtype=float, name="vote")
        self.n_iter_ = 0
        if self._is_constant:
            return self
        weights = np.ones(len(X)) if data.sample_weight is None else data.sample_weight
        wanted = by_modality("n_features", self.n_features, X.names, default=None)
        blocks, keep = [], []
        for name in X.names:
            preprocessor = table_preprocessor(name, training_rows(X, name)[0], scale=self.scale)
            self._prepared[name] = FittedOnPresent(preprocessor, training_rows(X, name)[0])
            blocks.append(self._block(X, name))
            n_columns = blocks[-1].shape[1]
            keep.append(n_columns if wanted[name] is None else _count(name, wanted[name], n_columns))
        present = dict(zip(X.names, X.present.T))
        self._centres = {
            name: np.average(block[present[name]], axis=0, weights=weights[present[name]])
            for name, block in zip(X.names, blocks)
        }
        blocks = [self._centred(name, block, present[name]) for name, block in zip(X.names, blocks)]
        centred = goal - np.average(goal, axis=0, weights=weights)
        spread = np.sqrt(np.average(np.square(centred), axis=0, weights=weights))
        roots = np.sqrt(weights)[:, None]
        directions, agreement, self.n_iter_ = fit_directions(
            [roots * block for block in blocks],
            roots * centred / np.where(spread > 0, spread, 1),
            keep=keep,
            design=self.design,
            n_components=self.n_components,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        self.votes_ = pd.Series(agreement.mean(axis=1), X.names, name="vote")
        for name, block, found in zip(X.names, blocks, directions):
            self._directions[name] = found
            rows = present[name]
            self._models[name] = self._learn(project(block[rows], found), data.y[rows], weights[rows])
            names = X.columns(name) if X.kind(name) in ("dense", "sparse") else range(block.shape[1])
            names = names if len(names) == block.shape[1] else range(block.shape[1])
            self.weights_[name] = pd.DataFrame(np.stack([d.weights for d in found], axis=1), index=list(names))
        return self

    def project(self, X: Any) -> dict[str, Any]:
        """Return the scores (n_samples, n_components) of each modality; NaN where it is missing.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        dict of str to ndarray (n_samples, n_components)
            By modality.
        """
        check_is_fitted(self)
        return self._scores(check_modalities(self, X, reset=False))

    def _scores(self, X: Modalities) -> dict[str, Any]:
        out = {}
        for name, present in zip(X.names, X.present.T):
            out[name] = np.full((len(X), self.n_components), np.nan)
            if present.any() and name in self._directions:
                block = self._centred(name, self._block(X, name), present)
                out[name][present] = project(block[present], self._directions[name])
        return out

    def _block(self, X: Modalities, name: str) -> Any:
        present = X.present[:, X.names.index(name)]
        return np.array(to_dense(self._prepared[name].apply(X[name], present)), dtype=np.float64)

    def _centred(self, name: str, block: Any, present: Any) -> Any:
        return np.where(present[:, None], block - self._centres[name], 0.0)

    def _voted(self, X: Modalities) -> Any:
        """Return the average of what modalities that are present say, (n_samples, n_outputs)."""
        said = [self._say(self._models[name], scores) for name, scores in self._scores(X).items()]
        return combine("weighted", np.stack(said), self.votes_.to_numpy())


def _count(name: str, wanted: Any, n_columns: int) -> int:
    if not isinstance(wanted, numbers.Integral) or isinstance(wanted, bool) or wanted < 1:
        raise ValueError(f"n_features of modality {name!r} is {wanted!r}; due is a whole number of 1 or more.")
    return min(int(wanted), n_columns)


class MultiBlockPLS(ClassifierMixin, _MultiBlock):
    """Sparse multi-block PLS discriminant analysis: a few features a modality that tell classes, and go together.

    Component by component, each modality gets a weighted sum of its features. The sums covary with the classes as far
    as possible, and with each other as far as `design` asks for [1]_; `n_features` of the weights are not 0. Each
    modality then has a say by Gaussian classes over its components, and those that are present vote, weighted by how
    far their components go with the classes [2]_.

    Parameters
    ----------
    n_components : int, default=2
        Components a modality.
    n_features : int or dict of str to int, default=None
        How many features a component of a modality has; None is all of them.
    design : float, default=0.1
        How much modalities are to go together, against 1 for going with the classes.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    scale : bool, default=True
        Standardise features, and log-normalise counts.
    max_iter : int, default=500
        Rounds a component.
    tol : float, default=1e-9
        Change of weights below which a component is done.

    Attributes
    ----------
    weights_ : dict of str to DataFrame (n_features, n_components)
        Weights of the features, most of them 0 where `n_features` is set.
    votes_ : Series
        Weight of each modality in the vote.
    n_iter_ : int
        The most rounds that a component took.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Tenenhaus et al., "Variable selection for generalized canonical correlation analysis", Biostatistics 15,
       2014.
    .. [2] Singh et al., "DIABLO: an integrative approach for identifying key molecular drivers from multi-omics
       assays", Bioinformatics 35, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultiBlockPLS
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["healthy", "ill"], 50)
    >>> X = {"rna": rng.normal(size=(100, 20)), "protein": rng.normal(size=(100, 10))}
    >>> X["rna"][50:, 3] += 3
    >>> X["protein"][50:, 7] += 2
    >>> model = MultiBlockPLS(1, n_features=1).fit(X, y)
    >>> {name: int(weights[0].abs().argmax()) for name, weights in model.weights_.items()}
    {'rna': 3, 'protein': 7}
    >>> model.predict({"rna": X["rna"][-2:]})  # without protein
    array(['ill', 'ill'], dtype='<U7')
    """

    _is_classifier = True

    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities (n_samples, n_classes); the prior for a sample with nothing present."""
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        if self._is_constant:
            return np.ones((len(X), 1))
        out = self._voted(X)
        out[~X.present.any(axis=1)] = self._prior
        return out

    def predict(self, X: Any) -> Any:
        """Return the predicted class of each sample, (n_samples,)."""
        found = self.predict_proba(X)
        return self.classes_[found.argmax(axis=1)]

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._prior = class_prior(codes, len(self.classes_), sample_weight)
        return np.eye(len(self.classes_))[codes]

    @property
    def _is_constant(self) -> bool:
        return len(self.classes_) == 1

    def _learn(self, scores: Any, y: Any, weights: Any) -> Any:
        return Discriminant(scores, np.searchsorted(self.classes_, y), len(self.classes_), weights)

    def _say(self, model: Any, scores: Any) -> Any:
        return model.predict_proba(scores)


class MultiBlockPLSRegressor(RegressorMixin, _MultiBlock):
    """Sparse multi-block PLS regression: a few features a modality that go with a number, and with each other.

    Everything but the target is as in `MultiBlockPLS`; a modality has its say by linear regression on its components.

    Parameters
    ----------
    n_components, n_features, design, modalities, scale, max_iter, tol
        As in `MultiBlockPLS`.

    Attributes
    ----------
    weights_ : dict of str to DataFrame (n_features, n_components)
        Weights of the features.
    votes_ : Series
        Weight of each modality in the average.
    n_iter_ : int
        The most rounds that a component took.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Tenenhaus et al., "Variable selection for generalized canonical correlation analysis", Biostatistics 15,
       2014.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultiBlockPLSRegressor
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=100)
    >>> X = {name: rng.normal(size=(100, 5)) + y[:, None] for name in ("rna", "protein")}
    >>> MultiBlockPLSRegressor(1).fit(X, y).score(X, y) > 0.8
    True
    """

    _is_classifier = False
    _is_constant = False

    def predict(self, X: Any) -> Any:
        """Return predictions (n_samples,); the training mean for a sample with nothing present."""
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        out = self._voted(X)[:, 0]
        out[~X.present.any(axis=1)] = self._prior
        return out

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        self._prior = float(np.average(y, weights=sample_weight))
        return y.astype(np.float64)[:, None]

    def _learn(self, scores: Any, y: Any, weights: Any) -> Any:
        roots = np.sqrt(weights)
        table = np.column_stack([np.ones(len(scores)), scores])
        return np.linalg.lstsq(roots[:, None] * table, roots * y, rcond=1e-10)[0]

    def _say(self, model: Any, scores: Any) -> Any:
        return (model[0] + scores @ model[1:])[:, None]
