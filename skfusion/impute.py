"""Filling in missing modalities."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import require_present
from skfusion._compat import HasMethods, check_feature_names_in, integer, options, output_container
from skfusion._imputation import NUMERIC, Constant, Conversion, Neighbors, flat
from skfusion._targets import drop_empty
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.check import SINGLE
from skfusion.preprocessing import MeanFill, present_rows, side_by_side


class ModalityImputer(TransformerMixin, FusionEstimator):
    """Fill modalities that are missing from those that are present.

    Single NaN inside a present row are filled with the training mean of their column.

    Parameters
    ----------
    strategy : {"conversion", "mean", "zero", "knn"}, default="conversion"
        "conversion" trains networks from the modalities present to the missing one by squared error [1]_; "mean" and
        "zero" fill with the training mean or zero; "knn" averages the nearest training samples, by the modalities that
        both have.
    output : {"same", "modalities", "array"}, default="same"
        "same" is the form that came in: an array or DataFrame for one table, else a Modalities. "array" is all columns
        side by side, which any scikit-learn estimator takes, and what ``set_output(transform="pandas")`` implies.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    source : {"all", "pairs"}, default="all"
        For "conversion": one network a modality from all others, or one for each pair.
    estimator : regressor, default=None
        For "conversion": what is trained. None is a `JointFusionRegressor` with modality dropout.
    n_neighbors : int, default=5
        For "knn".
    device : str or torch.device, default="auto"
        Where networks are trained.
    random_state : int, RandomState or None, default=None
        For "conversion".

    Attributes
    ----------
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Ma, "Multi-modality deep learning", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> X = {"a": np.array([[1.0], [3.0], [4.0]]), "b": np.array([[10.0], [30.0], [np.nan]])}
    >>> ModalityImputer("knn", n_neighbors=1).fit_transform(X)["b"]
    array([[10.],
           [30.],
           [30.]])
    """

    _parameter_constraints = {
        "strategy": [options("conversion", "mean", "zero", "knn")],
        "output": [options("same", "modalities", "array")],
        "source": [options("all", "pairs")],
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_neighbors": [integer(1)],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        strategy: str = "conversion",
        *,
        output: str = "same",
        modalities: Any = None,
        source: str = "all",
        estimator: Any = None,
        n_neighbors: int = 5,
        device: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.strategy = strategy
        self.output = output
        self.modalities = modalities
        self.source = source
        self.estimator = estimator
        self.n_neighbors = n_neighbors
        self.device = device
        self.random_state = random_state

    @fits
    def fit(self, X: Any, y: Any = None) -> "ModalityImputer":
        """Learn to fill each modality.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : ignored
            Labels are never used.

        Returns
        -------
        self
            The fitted imputer.
        """
        X = check_modalities(self, X, y, reset=True)
        keep = drop_empty(X, np.ones(len(X), dtype=bool))
        X = X if keep.all() else X[keep]
        for column, name in enumerate(X.names):
            require_present(name, X.present[:, column])
        self._single_fills = {
            name: MeanFill().fit(flat(present_rows(X[name], present)))
            for name, present in zip(X.names, X.present.T)
            if X.kind(name) in NUMERIC
        }
        # What is not numeric can be copied from a neighbour alone; elsewhere it must be complete.
        names = [n for n in X.names if X.kind(n) in NUMERIC or self.strategy == "knn"]
        self.strategy_ = self._build().fit(self._with_singles_filled(X), names)
        self._output_names = self._names_out(X)
        return self

    def _build(self) -> Any:
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        if self.strategy == "knn":
            return Neighbors(self.n_neighbors, seed)
        if self.strategy != "conversion":
            return Constant(zero=self.strategy == "zero")
        estimator = self.estimator
        if estimator is None:
            from skfusion.joint import JointFusionRegressor

            estimator = JointFusionRegressor(
                modality_dropout=0.2 if self.source == "all" else 0.0,
                dropout_rate=0.1,
                device=self.device,
                random_state=seed,
            )
        return Conversion(self.source, estimator, seed)

    def transform(self, X: Any) -> Any:
        """Return `X` with every modality of every sample filled.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples; a modality that is absent is missing for all.

        Returns
        -------
        Modalities, ndarray, CSR matrix or DataFrame
            By `output`. A sample with nothing present gets the training means.
        """
        check_is_fitted(self)
        filled = self._complete(check_modalities(self, X, reset=False))
        output = "array" if output_container(self) != "default" else self.output
        if output == "array":
            return self._side_by_side(filled)
        if output == "same":
            return self._like(X, filled)
        return filled

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean over modalities of `score_modalities`.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            Samples whose modalities are known.
        y : ignored
            Not used.

        Returns
        -------
        float
            At most 1; NaN where no numeric modality can be compared.
        """
        scores = [s for s in self.score_modalities(X).values() if not np.isnan(s)]
        return float(np.mean(scores)) if scores else float("nan")

    def score_modalities(self, X: Any) -> dict[str, float]:
        """Hide each modality in turn, fill it from the others, and return R² (mean over its columns) where it is known.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            Samples whose modalities are known.

        Returns
        -------
        dict of str to float
            One a numeric modality.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        scores = {}
        for column, name in enumerate(X.names):
            if X.kind(name) not in NUMERIC:
                continue
            rows = np.flatnonzero(X.present[:, column])
            if len(rows) < 2:
                scores[name] = float("nan")
                continue
            known = self._with_singles_filled(X[rows])
            truth = self._single_fills[name].transform(flat(known[name]))
            truth = truth.toarray() if sparse.issparse(truth) else truth
            hidden = known.present.copy()
            hidden[:, column] = False
            blind = Modalities._of(known._data, known._columns, hidden, known.sample_ids)
            scores[name] = float(r2_score(truth, self.strategy_.fill(blind, name)))
        return scores

    def _complete(self, X: Modalities) -> Modalities:
        X = self._with_singles_filled(X)
        data = {}
        for column, name in enumerate(X.names):
            values, gone = X[name], np.flatnonzero(~X.present[:, column])
            if len(gone) and (name in self._single_fills or self.strategy == "knn"):
                values = _put(values, gone, self.strategy_.fill(X[gone], name))
            elif len(gone):
                raise ValueError(
                    f"modality {name!r} is {X.kind(name)} and missing for {len(gone)} samples; strategy "
                    f"{self.strategy!r} fills numbers alone. Use strategy='knn', which copies from the nearest sample."
                )
            data[name] = values
        everything = np.ones_like(X.present)
        return Modalities._of(data, X._columns, everything, X.sample_ids)

    def _with_singles_filled(self, X: Modalities) -> Modalities:
        """Fill single NaN, so that what converts or compares the present modalities sees what is handed out."""
        data = {
            name: _fill_singles(self._single_fills[name], X[name]) if name in self._single_fills else X[name]
            for name in X.names
        }
        return Modalities._of(data, X._columns, X.present, X.sample_ids)

    def _like(self, X: Any, filled: Modalities) -> Any:
        """Bring what was filled to the form of `X`: one table stays one."""
        several = isinstance(X, (Modalities, Mapping)) or hasattr(X, "obs_names")
        if several and not sparse.issparse(X):  # a dok_matrix is a dict as well
            return filled
        if isinstance(X, pd.DataFrame):
            return self._like_frame(X, filled)
        if not isinstance(self.modalities, Mapping):
            return filled[filled.names[0]]
        table: Any = sparse.lil_array(X) if sparse.issparse(X) else np.array(X, dtype=np.float64)
        for name, columns in self._selection_.positions.items():
            table[:, columns] = filled[name]
        return table.tocsr() if sparse.issparse(table) else table

    def _like_frame(self, X: pd.DataFrame, filled: Modalities) -> pd.DataFrame:
        if isinstance(self.modalities, Mapping):
            parts = {name: part.columns for name, part in self._selection_.split(X).items()}
        elif isinstance(X.columns, pd.MultiIndex):
            level = X.columns.get_level_values(0).astype(str)
            parts = {name: X.columns[level == name] for name in level.unique()}
        else:
            parts = {filled.names[0]: X.columns}
        out = X.copy()
        for name, columns in parts.items():
            if name not in filled:
                continue
            values = filled[name]
            if isinstance(values, pd.DataFrame):
                for position, column in enumerate(columns):
                    out[column] = values.iloc[:, position].array
            else:
                out[columns] = values.toarray() if sparse.issparse(values) else np.asarray(values)
        return out

    def _side_by_side(self, filled: Modalities) -> Any:
        odd = [name for name in filled.names if filled.kind(name) not in NUMERIC]
        if odd:
            raise ValueError(f"output='array' needs numbers, but {odd} hold none; leave them out, or use 'modalities'.")
        return side_by_side([flat(filled[name]) for name in filled.names])

    def _names_out(self, X: Modalities) -> list[str]:
        names: list[str] = []
        for name in X.names:
            if X.kind(name) in ("text", "tokens"):
                continue
            shape = X[name].shape[1:]
            columns = X.columns(name) if len(shape) == 1 else [str(i) for i in range(int(np.prod(shape)))]
            names += [f"{name}__{column}" for column in columns]
        return names

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the columns of ``output="array"``.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of a plain table; not used with several modalities.

        Returns
        -------
        ndarray of str objects
            ``modality__column``; the columns' own names where `X` is one table.
        """
        check_is_fitted(self)
        if list(self.modality_names_in_) == [SINGLE] and len(self._modality_specs_[SINGLE].shape) == 1:
            return check_feature_names_in(self, input_features)
        return np.array(self._output_names, dtype=object)


def _fill_singles(fill: MeanFill, values: Any) -> Any:
    table = flat(values)
    filled = fill.transform(table)
    if sparse.issparse(filled):
        return filled
    if filled is table:
        return values
    filled = filled.reshape(values.shape)
    if filled.ndim == 3:
        filled[np.isnan(values).all(axis=2)] = np.nan  # padding stays padding
    return filled


def _put_column(column: Any, rows: Any, filled: Any) -> Any:
    """Return a copy of a Series with `rows` set; categories that it does not know are added."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        new = [category for category in filled.dropna().unique() if category not in column.cat.categories]
        column = column.cat.add_categories(new)
    elif all(isinstance(part.dtype, np.dtype) and part.dtype.kind in "fiu" for part in (column, filled)):
        column = column.astype(np.result_type(column.dtype, filled.dtype))
    else:
        column = column.copy()
    column.iloc[rows] = filled.to_numpy()
    return column


def _put(values: Any, rows: Any, filled: Any) -> Any:
    """Return a copy of `values` with `rows` set; `filled` is a flat table, or rows of the same kind."""
    if isinstance(values, pd.DataFrame):
        out = values.copy()
        for position in range(values.shape[1]):
            out.isetitem(position, _put_column(values.iloc[:, position], rows, filled.iloc[:, position]))
        return out
    if sparse.issparse(values):
        keep = np.ones(values.shape[0])
        keep[rows] = 0
        there = type(values)(sparse.diags_array(keep, format="csr").astype(values.dtype) @ values)
        pick = sparse.csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), (values.shape[0], len(rows)))
        return (there + pick @ sparse.csr_matrix(filled)).tocsr()
    if values.dtype == object:
        out = values.copy()
        out[rows] = filled
        return out
    dtype = values.dtype if values.dtype.kind == "f" else np.float64
    out = values.astype(dtype, copy=True)
    out[rows] = filled.reshape(len(rows), *values.shape[1:])
    return out
