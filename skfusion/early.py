"""Early fusion: modalities are combined before any model sees them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds
from sklearn.base import TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, fit_embedding, resolve
from skfusion._compat import as_asked, check_feature_names_in, options
from skfusion._targets import drop_empty
from skfusion.imputation import STRATEGIES
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.check import SINGLE
from skfusion.preprocessing import WIDE, side_by_side, to_dense


class EarlyFusionTransformer(TransformerMixin, FusionEstimator):
    """Combine modalities before any model sees them.

    Type I of [1]_ combines the values as they are, type II features that an extractor made of them; no gradient of a
    later loss reaches an extractor.

    Parameters
    ----------
    method : {"concat", "sum", "mean", "max", "product"} or callable, default="concat"
        How modalities are combined. All but "concat" need equal widths. A callable gets a dict of name to array
        (n_samples, n_features), missing ones filled, and returns one array.
    transformers : None, "auto", "autoencoder", transformer, nn.Module or dict by modality, default=None
        Extractors. None takes tables as they are and brings other kinds to a table (one-hot categories, summary
        statistics of sequences, flattened images, hashed TF-IDF of text); "auto" standardises as well, log-normalises
        counts, and projects wide ones; "autoencoder" is an encoder trained by reconstruction. A scikit-learn
        transformer is cloned and fitted on the rows that have the modality; a torch module is copied and frozen.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    weights : None, "block", sequence or dict of float, default=None
        Factor of each modality. "block" is one over the first singular value of the modality in training, so that a
        wide modality does not drown a narrow one [2]_.
    add_indicator : bool, default=False
        Append a column a modality that is 1 where it is missing.
    fill_missing : str or Strategy, default="mean"
        What fills a missing modality under "concat" and a callable: its training mean, or a strategy of
        `ModalityImputer`, by name or as an instance, which fills what the extractors give from that of the modalities
        present. "factor" costs little, and does well where modalities go together.
    device : str or torch.device, default="auto"
        Where torch extractors run.
    random_state : int, RandomState or None, default=None
        For extractors and strategies that draw.

    Attributes
    ----------
    transformers_ : dict
        What was fitted, a modality.
    means_ : dict of ndarray
        The training mean of each modality's table.
    filler_ : Strategy or None
        The fitted strategy; None where means fill.
    weights_ : dict of float
        Factor of each modality.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    Notes
    -----
    A missing modality is filled under "concat" and a callable, and left out of the others, whose weights are
    renormalised over those present. Missing rows of CSR wider than 512 columns stay empty, since what fills them would
    be dense; nor do strategies fill other modalities from these. CSR in all modalities gives CSR.

    References
    ----------
    .. [1] Huang et al., "Fusion of medical imaging and electronic health records using deep learning", npj Digital
       Medicine 3:136, 2020.
    .. [2] Escofier and Pagès, "Multiple factor analysis", Computational Statistics & Data Analysis 18, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import EarlyFusionTransformer
    >>> X = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([[5.0], [np.nan]])}
    >>> EarlyFusionTransformer().fit_transform(X)
    array([[1., 2., 5.],
           [3., 4., 5.]])
    """

    _parameter_constraints = {
        "method": [options("concat", "sum", "mean", "max", "product"), callable],
        "weights": [options("block"), "array-like", dict, None],
        "add_indicator": ["boolean"],
        "fill_missing": [str, Strategy],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        method: Any = "concat",
        transformers: Any = None,
        *,
        modalities: Any = None,
        weights: Any = None,
        add_indicator: bool = False,
        fill_missing: Any = "mean",
        device: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.transformers = transformers
        self.modalities = modalities
        self.weights = weights
        self.add_indicator = add_indicator
        self.fill_missing = fill_missing
        self.device = device
        self.random_state = random_state

    @fits
    def fit(self, X: Any, y: Any = None) -> "EarlyFusionTransformer":
        """Fit the extractors, and learn what fills a missing modality.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : array-like of shape (n_samples,), default=None
            The target, for extractors that are supervised.

        Returns
        -------
        self
            The fitted transformer.
        """
        X = check_modalities(self, X, y, reset=True)
        keep = drop_empty(X, np.ones(len(X), dtype=bool))
        if not keep.all():
            X, y = X[keep], None if y is None else np.asarray(y)[keep]
        specs = by_modality("transformers", self.transformers, X.names, default=None)
        options = {"device": self.device, "random_state": self.random_state}
        self.transformers_ = {n: fit_embedding("transformers", spec, X, n, y, **options) for n, spec in specs.items()}
        tables = self._tables(X)
        self.means_, self.widths_ = {}, {}
        for column, (name, table) in enumerate(tables.items()):
            rows = table if X.present[:, column].all() else table[X.present[:, column]]
            self.means_[name] = np.asarray(rows.mean(axis=0), dtype=np.float64).ravel()
            self.widths_[name] = table.shape[1]
        if isinstance(self.method, str) and self.method != "concat" and len(set(self.widths_.values())) > 1:
            raise ValueError(
                f"method {self.method!r} needs equal widths; the modalities have {self.widths_}. Use method='concat', "
                "or transformers that bring them to one width."
            )
        self.weights_ = self._find_weights(tables, X.present)
        self.filler_ = self._fit_filler(tables, X.present)
        fused = self._combine(tables, X.present)
        self._n_features_out, self._gives_csr = fused.shape[1], sparse.issparse(fused)
        return self

    def transform(self, X: Any) -> Any:
        """Return the fused table.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray or CSR matrix of shape (n_samples, n_features_out)
            A sample with nothing present gets the fusion of the training means.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        fused = self._combine(self._tables(X), X.present)
        # What follows was fitted on one of the two, however many values these samples store.
        if sparse.issparse(fused) != self._gives_csr:
            fused = sparse.csr_matrix(fused) if self._gives_csr else fused.toarray()
        return as_asked(self, fused, X.sample_ids)

    def _tables(self, X: Modalities) -> dict[str, Any]:
        tables = {}
        for column, (name, transformer) in enumerate(self.transformers_.items()):
            table = transformer.apply(X[name], X.present[:, column])
            if table.ndim != 2:
                raise ValueError(
                    f"the extractor of modality {name!r} gave shape {table.shape}; due is (n_samples, n_features)."
                )
            tables[name] = table
        return tables

    def _find_weights(self, tables: Mapping[str, Any], present: Any) -> dict[str, float]:
        names = list(tables)
        if self.weights is None:
            return dict.fromkeys(names, 1.0)
        if isinstance(self.weights, str):
            return {
                name: 1 / _first_singular_value(table[present[:, column]])
                for column, (name, table) in enumerate(tables.items())
            }
        if isinstance(self.weights, Mapping):
            found = by_modality("weights", self.weights, names, default=1.0)
        else:
            if not isinstance(self.weights, (Sequence, np.ndarray)) or len(self.weights) != len(names):
                raise ValueError(f"weights is {self.weights!r}; due are {len(names)} numbers, one for each of {names}.")
            found = dict(zip(names, self.weights))
        return {name: float(weight) for name, weight in found.items()}

    def _fit_filler(self, tables: dict[str, Any], present: Any) -> Any:
        """Return a fitted strategy that fills tables from one another; None where the mean is all that fills."""
        strategy = self.fill_missing
        strategy = resolve("fill_missing", strategy, STRATEGIES)() if isinstance(strategy, str) else clone(strategy)
        known = _fillable(tables, present)
        if self.fill_missing == "mean" or not self._fills or len(known.names) < 2:
            return None
        strategy._validate_params()
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        rows = np.flatnonzero(known.present.any(axis=1))
        return strategy.fit(known if len(rows) == len(known) else known[rows], known.names, Settings(seed, self.device))

    @property
    def _fills(self) -> bool:
        """Whether a missing modality is filled; else it is left out."""
        return callable(self.method) or self.method == "concat"

    def _combine(self, tables: dict[str, Any], present: Any) -> Any:
        filled = self._fill(tables, present)
        if callable(self.method):
            fused = self.method({name: to_dense(table) for name, table in filled.items()})
        elif self.method == "concat":
            fused = side_by_side(list(filled.values()))
        else:
            # A sample with nothing present is the fusion of all training means.
            counted = present | ~present.any(axis=1, keepdims=True)
            weights = np.array(list(self.weights_.values()))
            fused = _reduce(str(self.method), list(filled.values()), counted, weights)
        if self.add_indicator:
            missing = (~present).astype(np.float64)
            fused = side_by_side([fused, sparse.csr_matrix(missing) if sparse.issparse(fused) else missing])
        return fused

    def _fill(self, tables: dict[str, Any], present: Any) -> dict[str, Any]:
        """Missing rows of all tables filled, each table times its weight."""
        known = None if self.filler_ is None or present.all() else _fillable(tables, present)
        out = {}
        for column, (name, table) in enumerate(tables.items()):
            gone, weight = np.flatnonzero(~present[:, column]), self.weights_[name] if self._fills else 1.0
            if len(gone) and not _is_wide(table):
                if known is not None and name in known.names:
                    rows = to_dense(self.filler_.fill(known[gone], name))
                else:
                    rows = np.broadcast_to(self.means_[name], (len(gone), table.shape[1]))
                table = _put(table, gone, rows)
            out[name] = table if weight == 1.0 else table * weight
        return out

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the columns of the fused table.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of a plain table; not used with several modalities.

        Returns
        -------
        ndarray of str objects
            ``modality__column`` under "concat"; the columns' own names where `X` is one table.
        """
        check_is_fitted(self)
        names: list[str] = []
        n_fused = self._n_features_out - (len(self.modality_names_in_) if self.add_indicator else 0)
        alone = list(self.transformers_) == [SINGLE]
        if alone:
            input_features = check_feature_names_in(self, input_features)
        if self.method == "concat":
            for name in self.transformers_:
                columns = self._columns_out(name, input_features if alone else None)
                names += columns if alone else [f"{name}__{column}" for column in columns]
        elif alone and isinstance(self.method, str):
            names = self._columns_out(SINGLE, input_features)
        else:
            prefix = self.method if isinstance(self.method, str) else "fused"
            names = [f"{prefix}{i}" for i in range(n_fused)]
        if self.add_indicator:
            names += [f"missing_{name}" for name in self.transformers_]
        return np.array(names, dtype=object)

    def _columns_out(self, name: str, input_features: Any) -> list[str]:
        spec = self._modality_specs_[name]
        width = self.widths_[name]
        if input_features is None and len(spec.shape) == 1:
            input_features = list(spec.columns or [str(i) for i in range(spec.shape[0])])
        transformer = self.transformers_[name].transformer
        try:
            columns = [str(c) for c in transformer.get_feature_names_out(input_features)]
        except (AttributeError, ValueError, TypeError):
            columns = []
        return columns if len(columns) == width else [str(i) for i in range(width)]


def _is_wide(table: Any) -> bool:
    """Whether rows of a table stay empty, since filled they would take the memory that CSR saves."""
    return sparse.issparse(table) and table.shape[1] > WIDE


def _fillable(tables: dict[str, Any], present: Any) -> Modalities:
    """Return the tables that fill one another."""
    names = [name for name, table in tables.items() if not _is_wide(table) and table.shape[1]]
    columns = [list(tables).index(name) for name in names]
    return Modalities._of({name: tables[name] for name in names}, dict.fromkeys(names), present[:, columns], None)


def _put(table: Any, where: Any, rows: Any) -> Any:
    """Return a table (n, D) with `rows` (n_where, D) in the place of empty ones."""
    if sparse.issparse(table):
        ones = np.ones(len(where))
        scatter = sparse.csr_matrix((ones, (where, np.arange(len(where)))), (table.shape[0], len(where)))
        return table + scatter @ sparse.csr_matrix(rows)
    out = table.astype(np.result_type(table, rows))
    out[where] = rows
    return out


def _reduce(method: str, tables: list[Any], present: Any, weights: Any) -> Any:
    """M tables (n, D), present (n, M), weights (M,) -> (n, D), over the modalities present; CSR where all are."""
    if not all(sparse.issparse(table) for table in tables):
        tables = [to_dense(table) for table in tables]
    fused, begun = None, np.zeros(len(present), dtype=bool)
    for table, there, weight in zip(tables, present.T, weights):
        own = _scale_rows(table, there * weight)
        # One that is missing adds nothing but zeros, which are no factor and no maximum.
        together = None if fused is None or method not in _JOIN else _JOIN[method](fused, own)
        fused = own if fused is None else fused + own
        if together is not None:
            both = begun & there
            fused = _scale_rows(together, both) + _scale_rows(fused, ~both)
        begun |= there
    if method in _JOIN:
        return fused
    share = present @ weights
    if (share == 0).any():
        raise ValueError(f"weights {weights.tolist()} add up to 0 over the modalities of some sample.")
    return _scale_rows(fused, 1 / share if method == "mean" else weights.sum() / share)


_JOIN = {
    "max": lambda a, b: a.maximum(b) if sparse.issparse(a) else np.maximum(a, b),
    "product": lambda a, b: a.multiply(b).tocsr() if sparse.issparse(a) else a * b,
}


def _scale_rows(table: Any, factors: Any) -> Any:
    """Rows of a table (n, D) times factors (n,); a factor of 0 gives zeros."""
    if not sparse.issparse(table):
        return table * factors[:, None]
    out = table.astype(np.float64)
    out.data *= np.repeat(factors, np.diff(out.indptr))
    return out


def _first_singular_value(table: Any) -> float:
    if not np.any(table.data if sparse.issparse(table) else table):
        return 1.0
    if min(table.shape) == 1:
        return (
            float(
                np.sqrt(
                    table.multiply(table).sum() if sparse.issparse(table) else np.square(table, dtype=np.float64).sum()
                )
            )
            or 1.0
        )
    if not sparse.issparse(table) and min(table.shape) <= WIDE:
        return float(np.linalg.norm(np.asarray(table, dtype=np.float64), 2)) or 1.0
    start = np.ones(min(table.shape))
    return float(svds(table.astype(np.float64), k=1, v0=start, return_singular_vectors=False)[0]) or 1.0
