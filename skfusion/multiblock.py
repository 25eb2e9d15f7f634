"""Multi-block PLS: sparse components of each modality that agree with the target and with each other."""

import numbers
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, training_rows
from skfusion._combine import combine
from skfusion._compat import as_asked, check_feature_names_in, integer, real
from skfusion._multiblock import Discriminant, fit_directions, project
from skfusion._targets import class_prior, training_set
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.check import SINGLE
from skfusion.preprocessing import FittedOnPresent, table_preprocessor, to_dense


class _MultiBlock(TransformerMixin, FusionEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "n_components": [integer(1)],
        "n_features": [integer(1), "array-like", dict, None],
        "design": [real(0, 1, "both"), "array-like"],
        "scale": ["boolean"],
        "max_iter": [integer(1)],
        "tol": [real(0)],
    }

    def __init__(
        self,
        n_components: int = 2,
        n_features: Any = None,
        *,
        design: Any = 0.1,
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
        y : array-like of shape (n_samples,), or of numbers (n_samples, n_outputs)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights; those of weight 0 are left out. Scaling knows none.

        Returns
        -------
        self
            The fitted estimator.
        """
        X = check_modalities(self, X, y, reset=True)
        several = not self._is_classifier
        data = training_set(self, X, y, sample_weight, numeric=several, multi_output=several)
        X, goal = data.X, self._learn_target(data.y, data.sample_weight)
        self._prepared: dict[str, FittedOnPresent] = {}
        self._directions: dict[str, Any] = {}
        self._models: dict[str, Any] = {}
        self.weights_: dict[str, pd.DataFrame] = {}
        self.loadings_: dict[str, pd.DataFrame] = {}
        self.votes_ = pd.Series(dtype=float, name="vote")
        self.n_iter_ = 0
        self._n_components = self.n_components
        if self._is_constant:
            return self
        weights = np.ones(len(X)) if data.sample_weight is None else data.sample_weight
        design = design_matrix(self.design, X.names)
        blocks = self._prepare(X, weights)
        wanted = by_modality("n_features", self.n_features, X.names, default=None)
        keep = [_counts(name, wanted[name], block.shape[1], self.n_components) for name, block in zip(X.names, blocks)]
        centred = goal - _mean(goal, weights)
        spread = np.sqrt(np.average(np.square(centred), axis=0, weights=weights))
        roots = np.sqrt(weights)[:, None]
        directions, agreement, self.n_iter_ = fit_directions(
            [roots * block for block in blocks],
            roots * centred / np.where(spread > 0, spread, 1),
            keep=np.array(keep),
            design=design,
            n_components=self.n_components,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        n_found = [sum(one.weights.any() for one in found) for found in directions]
        self.votes_ = pd.Series(agreement.sum(axis=1) / np.maximum(n_found, 1), X.names, name="vote")
        for name, block, found, rows in zip(X.names, blocks, directions, X.present.T):
            self._directions[name] = found
            self._models[name] = self._learn(project(block[rows], found), data.y[rows], weights[rows])
            names = X.columns(name) if X.kind(name) in ("dense", "sparse") else range(block.shape[1])
            names = names if len(names) == block.shape[1] else range(block.shape[1])
            self.weights_[name] = pd.DataFrame(np.stack([d.weights for d in found], axis=1), index=list(names))
            self.loadings_[name] = pd.DataFrame(np.stack([d.loadings for d in found], axis=1), index=list(names))
        return self

    def _prepare(self, X: Modalities, weights: Any) -> list[Any]:
        """Fit the preprocessing, and return the block (n_samples, n_features) of each modality, centred."""
        self._centres = {}
        blocks = []
        for name, present in zip(X.names, X.present.T):
            rows = training_rows(X, name)[0]
            self._prepared[name] = FittedOnPresent(table_preprocessor(name, rows, scale=self.scale), rows)
            block = self._block(X, name)
            self._centres[name] = _mean(block[present], weights[present])
            blocks.append(self._centred(name, block, present))
        return blocks

    def transform(self, X: Any) -> Any:
        """Return the scores of all modalities side by side.

        In a ``Pipeline``, put ``SimpleImputer()`` behind it, which fills with the training mean, or an estimator that
        takes NaN, as ``HistGradientBoostingClassifier``.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_modalities * n_components)
            The components of one modality after those of another, in the order of `modality_names_in_`; NaN where a
            modality is missing, 0 in components that it has not.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return as_asked(self, np.hstack(list(self._scores(X).values())), X.sample_ids)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the columns of `transform`, ``modality__component0`` and so on.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of a plain table; checked, not used.

        Returns
        -------
        ndarray of str objects
            ``component0`` and so on where `X` is one table.
        """
        check_is_fitted(self)
        names = self.modality_names_in_.tolist()
        alone = names == [SINGLE]
        if alone:
            check_feature_names_in(self, input_features, generate_names=False)
        columns = [f"component{i}" for i in range(self._n_components)]
        prefixes = [""] if alone else [f"{name}__" for name in names]
        return np.array([prefix + column for prefix in prefixes for column in columns], dtype=object)

    def project(self, X: Any) -> dict[str, Any]:
        """Return the scores of each modality by its name.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        dict of str to ndarray (n_samples, n_components)
            NaN where the modality is missing; 0 in components that it has not, and in all where training had one
            class alone.
        """
        check_is_fitted(self)
        return self._scores(check_modalities(self, X, reset=False))

    def _scores(self, X: Modalities) -> dict[str, Any]:
        out = {}
        for name, present in zip(X.names, X.present.T):
            out[name] = np.where(present[:, None], np.zeros(self._n_components), np.nan)
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


def _mean(values: Any, weights: Any) -> Any:
    """Return the weighted mean of each column; of a constant one its value to the bit, so that 0 is left."""
    return np.where(np.ptp(values, axis=0) > 0, np.average(values, axis=0, weights=weights), values[0])


def _counts(name: str, wanted: Any, n_columns: int, n_components: int) -> list[int]:
    """Return how many features each component of a modality has."""
    listed = [wanted] * n_components if np.ndim(wanted) == 0 else list(wanted)
    if len(listed) != n_components:
        raise ValueError(
            f"n_features of modality {name!r} is {wanted!r}; due is one number, or {n_components}, one a component."
        )
    return [n_columns if each is None else _count(name, each, n_columns) for each in listed]


def _count(name: str, wanted: Any, n_columns: int) -> int:
    if not isinstance(wanted, numbers.Integral) or isinstance(wanted, bool) or wanted < 1:
        raise ValueError(f"n_features of modality {name!r} is {wanted!r}; due is a whole number of 1 or more.")
    return min(int(wanted), n_columns)


def design_matrix(design: Any, names: list[str]) -> Any:
    """Return how much each modality is to go with each other, (n_modalities, n_modalities)."""
    if isinstance(design, numbers.Real):
        return float(design) * (1 - np.eye(len(names)))
    if isinstance(design, pd.DataFrame):
        for what, labels in (("rows", design.index), ("columns", design.columns)):
            if len(labels) != len(names) or set(labels) != set(names):
                raise ValueError(f"the {what} of design are {list(labels)}; due are the modalities, {names}.")
        design = design.loc[names, names]
    try:
        matrix = np.asarray(design, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"design is {design!r}; due is a number, or a matrix of numbers.") from error
    if matrix.shape != (len(names), len(names)):
        raise ValueError(
            f"design has shape {matrix.shape}; due is a number, or {(len(names), len(names))}, one row and one column "
            f"for each of {names}."
        )
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError(f"design is {matrix.tolist()}; due are values from 0 to 1.")
    if not np.array_equal(matrix, matrix.T):
        raise ValueError(f"design is {matrix.tolist()}; due is a symmetric matrix: two modalities go together alike.")
    if np.diag(matrix).any():
        raise ValueError(
            f"design has the diagonal {np.diag(matrix).tolist()}; due are zeros, since a modality goes with itself."
        )
    return matrix


class MultiBlockPLS(ClassifierMixin, _MultiBlock):
    """Sparse multi-block PLS discriminant analysis: a few features a modality that tell classes, and go together.

    Component by component, each modality gets a weighted sum of its features. The sums covary with the classes as far
    as possible, and with each other as far as `design` asks for [1]_; `n_features` of the weights are not 0. Each
    modality then has a say by Gaussian classes over its components, and those that are present vote, weighted by how
    far their components go with the classes [2]_.

    Parameters
    ----------
    n_components : int, default=2
        Components a modality. One that has fewer, such as a table of two columns, has zeros for the others.
    n_features : int, list of int or dict by modality of either, default=None
        How many features a component of a modality has (keepX in mixOmics), or each component, in a list; None is all
        of them. Features tied with the last one stay as well.
    design : float, or DataFrame or array of shape (n_modalities, n_modalities), default=0.1
        How much modalities are to go together, from 0 to 1, against 1 for going with the classes. A matrix says it of
        each pair: it is symmetric, and 0 on the diagonal. The rows and columns of a DataFrame are called by the
        modalities, those of an array are in the order of `X`.
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
        Weights of the features, most of them 0 where `n_features` is set; mixOmics calls these loadings.
    loadings_ : dict of str to DataFrame (n_features, n_components)
        Slopes of the features, scaled as in `scale`, on the components: features that say the same have similar ones,
        whether they were chosen or not.
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
    >>> model.set_output(transform="pandas").transform({"rna": X["rna"][-2:]}).round(1)
       rna__component0  protein__component0
    0             -0.3                  NaN
    1             -1.2                  NaN
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
    """Sparse multi-block PLS regression: a few features a modality that go with numbers, and with each other.

    Everything but the target, one number or several, is as in `MultiBlockPLS`; a modality has its say by linear
    regression on its components.

    Parameters
    ----------
    n_components, n_features, design, modalities, scale, max_iter, tol
        As in `MultiBlockPLS`.

    Attributes
    ----------
    weights_, loadings_ : dict of str to DataFrame (n_features, n_components)
        As in `MultiBlockPLS`.
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any) -> Any:
        """Return predictions, (n_samples,) or (n_samples, n_outputs); the training mean where nothing is present."""
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        out = self._voted(X)
        out[~X.present.any(axis=1)] = self._prior
        return out if self._several else out[:, 0]

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        self._several = y.ndim == 2
        goal = y.astype(np.float64).reshape(len(y), -1)
        self._prior = np.average(goal, axis=0, weights=sample_weight)
        return goal

    def _learn(self, scores: Any, y: Any, weights: Any) -> Any:
        roots = np.sqrt(weights)[:, None]
        table = np.column_stack([np.ones(len(scores)), scores])
        return np.linalg.lstsq(roots * table, roots * y.reshape(len(y), -1), rcond=1e-10)[0]

    def _say(self, model: Any, scores: Any) -> Any:
        return model[0] + scores @ model[1:]
