"""Default preprocessing by a modality's kind, composed of scikit-learn transformers.

Early, joint and late fusion all start from these. Each is fitted on the rows of the training data that have the
modality, and applied to the rows that have it.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.sparsefuncs import mean_variance_axis

from skfusion._compat import ArrayTransformer, on_arrays
from skfusion.encoders.counts import CountStatistics
from skfusion.modalities.backed import in_memory
from skfusion.modalities.kinds import KINDS, Values, kind_of, take

WIDE = 512
"""CSR with more columns than this is projected, where a dense model follows."""
N_COMPONENTS = 50
"""Components that wide CSR is projected to."""
FARTHEST = 1e6
"""Standard deviations beyond which all values are equally far: squares of those stay finite in single precision."""
_THETAS = (0.1, 100.0)
"""Between these lies what moments say of a dispersion."""
_ROUNDING = 1e-12
"""Share of a mean square, or of all variance, below which variance is rounding."""
_SPARSE_DENSITY = 0.3
"""Where CSR and dense parts meet, the result is CSR below this share of stored values, as in ColumnTransformer."""


class MeanFill(OneToOneFeatureMixin, ArrayTransformer, BaseEstimator):
    """Fill NaN with the column's training mean; without NaN the values pass uncopied."""

    def fit(self, X: Any, y: Any = None) -> "MeanFill":
        """Learn the mean of each column of `X` (n_samples, n_features); 0 for a column without a value."""
        sums: Any
        if sparse.issparse(X):
            gone = X.copy()
            gone.data = np.isnan(gone.data)
            counts = X.shape[0] - np.asarray(gone.sum(axis=0)).ravel()
            there = X.copy()
            there.data = np.nan_to_num(there.data)
            sums = np.asarray(there.sum(axis=0, dtype=np.float64)).ravel()
        elif X.dtype.kind != "f":
            counts, sums = np.full(X.shape[1], len(X)), X.sum(axis=0, dtype=np.float64)
        else:
            sums = np.nansum(X, axis=0, dtype=np.float64)
            whole = np.isfinite(sums.sum()) and not np.isnan(np.sum(X, dtype=np.float64))
            counts = np.full(X.shape[1], len(X)) if whole else (~np.isnan(X)).sum(axis=0)
        self.means_ = sums / np.maximum(counts, 1)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Return `X` with NaN replaced; a copy only where there is NaN."""
        if sparse.issparse(X):
            gone = np.flatnonzero(np.isnan(X.data)) if X.dtype.kind == "f" else ()
            if len(gone):
                X = X.copy()
                X.data[gone] = self.means_[X.indices[gone]]
            return X
        if X.dtype.kind != "f" or not np.isnan(np.sum(X)):
            return X
        return np.where(np.isnan(X), self.means_.astype(X.dtype), X)


def median_total(totals: Any) -> float:
    """Return the median of those `totals` (n_samples,) that are more than 0; 1 where none is."""
    return float(np.median(totals[totals > 0])) if (totals > 0).any() else 1.0


class LogNormalizer(OneToOneFeatureMixin, ArrayTransformer, BaseEstimator):
    """CSR counts (n_samples, n_features) to log1p of counts, each sample scaled to the median total of training.

    A fixed target far above the totals that occur would blow up the difference between no count and one.
    """

    def fit(self, X: Any, y: Any = None) -> "LogNormalizer":
        """Learn the median total."""
        totals = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
        self.target_sum_ = median_total(totals)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Return float32 CSR of the same shape; a sample without a count stays zero."""
        totals = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
        factors = (self.target_sum_ / np.where(totals > 0, totals, 1)).astype(np.float32)
        out = X.astype(np.float32)
        out.sum_duplicates()  # the logarithm of a sum is not that of its parts
        out.data *= np.repeat(factors, np.diff(out.indptr))
        np.log1p(out.data, out=out.data)
        return out


class Standardizer(OneToOneFeatureMixin, ArrayTransformer, BaseEstimator):
    """Standardise up to `FARTHEST`, lest sentinels be NaN in networks; constant columns become zero."""

    def __init__(self, with_mean: bool = True) -> None:
        self.with_mean = with_mean

    def fit(self, X: Any, y: Any = None) -> "Standardizer":
        """Learn mean and scale of `X` (n_samples, n_features), CSR or dense."""
        self.scaler_: Any = on_arrays(StandardScaler(with_mean=self.with_mean)).fit(X)
        self.still_ = self.scaler_.var_ <= np.square(_ROUNDING * self.scaler_.mean_)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Return the standardised `X` (n_samples, n_features), CSR or dense."""
        with np.errstate(over="ignore"):
            out = self.scaler_.transform(X)
        clip(out.data if sparse.issparse(out) else out)
        # What never varied in training says nothing, whatever comes.
        if self.still_.any() and sparse.issparse(out):
            out.data[self.still_[out.indices]] = 0
        elif self.still_.any():
            out[:, self.still_] = 0
        return out

    def inverse_transform(self, X: Any) -> Any:
        """Return the values (n_samples, n_features) of standardised ones."""
        return self.scaler_.inverse_transform(X)


def clip(values: Any) -> None:
    """Let floats end at `FARTHEST`, in place; NaN stays."""
    farthest = min(FARTHEST, float(np.finfo(values.dtype).max))
    np.clip(values, -farthest, farthest, out=values)


class OneScale(OneToOneFeatureMixin, ArrayTransformer, BaseEstimator):
    """Divide all columns by one scale, the root mean square: components keep their order of importance."""

    def fit(self, X: Any, y: Any = None) -> "OneScale":
        """Learn the scale of `X` (n_samples, n_features)."""
        self.scale_ = float(np.sqrt(np.mean(np.square(X, dtype=np.float64)))) or 1.0
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Return `X` over the scale."""
        return X / np.asarray(self.scale_, dtype=X.dtype)


class Counts(OneToOneFeatureMixin, ArrayTransformer, BaseEstimator):
    """Counts (n_samples, n_genes) as they came, for encoders that normalise a batch themselves; learns statistics."""

    def fit(self, X: Any, y: Any = None) -> "Counts":
        """Learn `statistics_`."""
        rows = sparse.csr_matrix(X)
        totals = np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()
        library_size = median_total(totals)
        shares = sparse.csr_matrix(sparse.diags_array(1 / np.maximum(totals, 1)) @ rows)
        means = np.asarray((shares * library_size).log1p().mean(axis=0)).ravel()
        share = np.asarray(shares.mean(axis=0)).ravel()
        squares = np.asarray(shares.power(2).mean(axis=0)).ravel()
        # A Poisson of this rate would have shares of this variance.
        poisson = share * float(np.mean(1 / np.maximum(totals, 1)))
        excess = np.maximum(squares - np.square(share) - poisson, 1e-12)
        thetas = np.clip(np.square(share) / excess, *_THETAS)
        self.statistics_ = CountStatistics(library_size, means, share, thetas)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Return `X`."""
        return X


def varies(table: Any) -> bool:
    """Whether the rows of a `table` (n_samples, n_columns), CSR or dense, differ by more than rounding."""
    if sparse.issparse(table):
        means, variances = mean_variance_axis(table, axis=0)
    else:
        means, variances = (moment(axis=0, dtype=np.float64) for moment in (table.mean, table.var))
    return bool(variances.sum() > _ROUNDING * np.square(means).sum())


class Projection(ClassNamePrefixFeaturesOutMixin, ArrayTransformer, BaseEstimator):
    """Tables to their first principal components, CSR never densified; as many as the samples allow.

    Components without variance are left out: new samples would differ in them by chance. Where nothing varies at all, a
    column of zeros comes out.

    Parameters
    ----------
    n_components : int, default=50
        At most so many.
    random_state : int or RandomState, default=None
        Start of the iteration.
    """

    def __init__(self, n_components: int = N_COMPONENTS, random_state: Any = None):
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "Projection":
        """Learn the components of `X` (n_samples, n_features), CSR or dense."""
        n_components = min(self.n_components, *(n - 1 for n in X.shape))
        if n_components < 1 or not varies(X):
            self.pca_, self._n_features_out = None, 1
            self.mean_, self.components_ = np.asarray(X.mean(axis=0)).ravel(), np.zeros((1, X.shape[1]))
            return self
        solver = "arpack" if sparse.issparse(X) else "auto"
        self.pca_ = on_arrays(PCA(n_components, svd_solver=solver, random_state=self.random_state)).fit(X)
        self._n_features_out = int((self.pca_.explained_variance_ratio_ > _ROUNDING).sum())
        self.mean_, self.components_ = self.pca_.mean_, self.pca_.components_[: self._n_features_out]
        return self

    def transform(self, X: Any) -> Any:
        """Return the components (n_samples, at most n_components)."""
        if self.pca_ is None:
            return np.zeros((X.shape[0], 1))
        return self.pca_.transform(X)[:, : self._n_features_out]

    def inverse_transform(self, table: Any) -> Any:
        """Return the values (n_samples, n_features) that components (n_samples, at most n_components) stand for."""
        return table @ self.components_ + self.mean_


class TextHasher(ArrayTransformer, BaseEstimator):
    """Strings or token lists to hashed TF-IDF of words and word pairs, CSR (n_samples, n_features).

    Words have two characters or more, but for single digits: "grade 1" is not "grade 3".
    """

    def __init__(self, n_features: int = 2**16):
        self.n_features = n_features

    def fit(self, X: Any, y: Any = None) -> "TextHasher":
        """Learn the inverse document frequencies of `X` (n_samples,)."""
        self.tfidf_ = TfidfTransformer(sublinear_tf=True).fit(self._hash(X))
        return self

    def transform(self, X: Any) -> Any:
        """Return float64 CSR."""
        return self.tfidf_.transform(self._hash(X))

    def _hash(self, X: Any) -> Any:
        if kind_of(X) == "tokens":
            options: dict[str, Any] = {"analyzer": lambda tokens: [str(t) for t in tokens]}
        else:
            options = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b(?:\w\w+|\d)\b"}
        return HashingVectorizer(n_features=self.n_features, alternate_sign=False, norm=None, **options).transform(X)


class SummaryStatistics(ArrayTransformer, BaseEstimator):
    """Sequences (n_samples, time, channels) to mean, sd, minimum, maximum and slope of each channel.

    Steps that are NaN are left out; a statistic of a channel without any value is NaN.
    """

    def fit(self, X: Any, y: Any = None) -> "SummaryStatistics":
        """Learn nothing."""
        self.n_features_in_ = X.shape[2]
        return self

    def transform(self, X: Any) -> Any:
        """Return (n_samples, 5 * channels) float64."""
        X = np.asarray(X, dtype=np.float64)
        gone = np.isnan(X)
        count = (~gone).sum(axis=1)  # (n, C)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(gone, 0, X).sum(axis=1) / count
            centred = np.where(gone, 0, X - mean[:, None])
            sd = np.sqrt(np.square(centred).sum(axis=1) / count)
            time = np.where(gone, np.nan, np.linspace(-1, 1, X.shape[1])[None, :, None])
            time = time - np.nansum(time, axis=1, keepdims=True) / count[:, None]
            spread = np.nansum(np.square(time), axis=1)
            slope = np.nansum(time * centred, axis=1) / np.where(spread > 0, spread, 1)
        low = np.where(gone, np.inf, X).min(axis=1)
        high = np.where(gone, -np.inf, X).max(axis=1)
        parts = [mean, sd, low, high, slope]
        return np.concatenate([np.where(count > 0, part, np.nan) for part in parts], axis=1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Flatten(ArrayTransformer, BaseEstimator):
    """Images and volumes (n_samples, …) to one row a sample."""

    def fit(self, X: Any, y: Any = None) -> "Flatten":
        """Learn nothing."""
        return self

    def transform(self, X: Any) -> Any:
        """Return (n_samples, n_values)."""
        return np.asarray(X).reshape(len(X), -1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class ChannelScaler(ArrayTransformer, BaseEstimator):
    """Standardise each channel of sequences, images or volumes, up to `FARTHEST`.

    NaN becomes the mean, an all-NaN time step stays.

    Parameters
    ----------
    axis : int
        The axis of the channels.
    scale : bool, default=True
        False leaves the scale alone and fills NaN only.
    n_raw : int, default=0
        So many of the last channels are left alone, such as coordinates or ids. Their NaN becomes the (lower) median: a
        value that occurs.
    """

    def __init__(self, axis: int, scale: bool = True, n_raw: int = 0):
        self.axis = axis
        self.scale = scale
        self.n_raw = n_raw

    def fit(self, X: Any, y: Any = None) -> "ChannelScaler":
        """Learn mean and scale of each channel."""
        others = tuple(a for a in range(X.ndim) if a != self.axis)
        X = X if X.dtype.kind == "f" else X.astype(np.float32)
        there = ~np.isnan(X)
        n = np.maximum(there.sum(axis=others, keepdims=True), 1)
        mean = np.where(there, X, 0).sum(axis=others, keepdims=True, dtype=np.float64) / n
        variance = np.where(there, np.square(X - mean), 0).sum(axis=others, keepdims=True) / n
        self.mean_, self.fill_ = mean, mean.copy()
        self.scale_ = np.minimum(np.where(variance > 0, np.sqrt(variance), 1.0), np.finfo(np.float32).max)
        if self.n_raw:
            raw = (slice(None),) * self.axis + (slice(-self.n_raw, None),)
            self.mean_[raw], self.scale_[raw], self.fill_[raw] = 0.0, 1.0, _medians(X[raw], self.axis)
        return self

    def transform(self, X: Any) -> Any:
        """Return the same shape; float32 where it is scaled, else the dtype that came."""
        if not self.scale:
            gone = _single_gaps(X)
            return np.where(gone, self.fill_.astype(X.dtype), X) if gone.any() else X
        with np.errstate(over="ignore"):
            centred = (X - self.mean_).astype(np.float32)
            gone = _single_gaps(centred)
            centred = np.where(gone, (self.fill_ - self.mean_).astype(np.float32), centred) if gone.any() else centred
            out = centred / self.scale_.astype(np.float32)
        clip(out[(slice(None),) * self.axis + (slice(X.shape[self.axis] - self.n_raw),)])
        return out


def _medians(X: Any, axis: int) -> Any:
    """Lower median of each channel, of the shape of `X` with 1 on all other axes; 0 for a channel without a value."""
    channels = np.moveaxis(X, axis, 0).reshape(X.shape[axis], -1)
    there = (channel[~np.isnan(channel)] for channel in channels)
    medians = [np.quantile(values, 0.5, method="lower") if len(values) else 0.0 for values in there]
    return np.reshape(medians, [-1 if a == axis else 1 for a in range(X.ndim)])


def _single_gaps(X: Any) -> Any:
    """Where sequences, images or volumes are NaN, but for time steps that are NaN as a whole."""
    if X.dtype.kind != "f":
        return np.zeros(1, dtype=bool)
    gone = np.isnan(X)
    return gone & ~gone.all(axis=2, keepdims=True) if X.ndim == 3 else gone


def holds_counts(values: Values) -> bool:
    """Whether `values`, CSR or dense, are counts: integers, or floats that are all whole and not just 0 and 1."""
    data = values.data if sparse.issparse(values) else np.ravel(values)
    if data.size == 0 or data.dtype.kind == "b" or data.min() < 0:
        return False
    return data.dtype.kind in "iu" or bool(data.max() > 1 and np.equal(np.floor(data), data).all())


def table_preprocessor(
    name: str, values: Values, *, scale: bool = True, project: bool | None = None, random_state: Any = None
) -> Any:
    """Return an unfitted transformer that brings `values` to a 2-D table.

    Parameters
    ----------
    name : str
        The modality, for messages.
    values : array, CSR matrix or DataFrame
        What it will be fitted on; its kind decides.
    scale : bool, default=True
        Standardise (dense), scale without centring (CSR), log-normalise (counts).
    project : bool, default=None
        Project wide CSR to `N_COMPONENTS`. None projects counts alone, where `scale` is on.
    random_state : int or RandomState, default=None
        For the projection.
    """
    return on_arrays(_table_preprocessor(name, values, scale, project, random_state))


def _table_preprocessor(name: str, values: Values, scale: bool, project: bool | None, random_state: Any) -> Any:
    kind = kind_of(values)
    scaler: list[Any] = [Standardizer()] if scale else []
    if kind == "dense":
        return make_pipeline(*scaler, MeanFill())
    if kind == "sequence":
        return make_pipeline(SummaryStatistics(), *scaler, MeanFill())
    if kind in ("image", "volume"):
        return make_pipeline(Flatten(), *scaler, MeanFill())
    if kind == "table":
        return make_column_transformer(
            (make_pipeline(_ToFloat(), *scaler, MeanFill()), _numbers),
            (make_pipeline(_ToObjects(), OneHotEncoder(handle_unknown="ignore")), _categories),
            sparse_threshold=0 if project else 0.3,
            verbose_feature_names_out=False,
        )
    counts = kind == "sparse" and holds_counts(values)
    width = values.shape[1] if kind == "sparse" else WIDE + 1
    projection: list[Any] = []
    if width > WIDE and (counts and scale if project is None else project):
        projection = [Projection(random_state=random_state), OneScale()]
    if kind in ("text", "tokens"):
        return make_pipeline(TextHasher(), *projection)
    if kind != "sparse":
        raise ValueError(f"modality {name!r} is {KINDS[kind]}, which no default preprocessing takes.")
    if counts and scale:
        # Scaled to one variance, the many genes that hardly any cell has would outweigh the others.
        last = projection or ([Standardizer(with_mean=False)] if width <= WIDE else [])
        return make_pipeline(MeanFill(), LogNormalizer(), *last)
    return make_pipeline(MeanFill(), *([Standardizer(with_mean=False)] if scale else []), *projection)


def column_groups(preprocessor: Any) -> list[int] | None:
    """Return the feature of each column that a fitted `table_preprocessor` of a DataFrame gives; None for any other.

    A number has one column, a category one for each level.
    """
    if not isinstance(preprocessor, ColumnTransformer):
        return None
    widths: list[int] = []
    for _, part, columns in preprocessor.transformers_:
        if isinstance(part, Pipeline) and isinstance(part[-1], OneHotEncoder) and len(columns):
            widths += [len(levels) for levels in part[-1].categories_]
        else:
            widths += [1] * len(columns)
    return np.repeat(np.arange(len(widths)), widths).tolist()


def takes_nan(estimator: Any) -> bool:
    """Whether `estimator` says that it takes NaN; in a Pipeline, every step up to the one that imputes."""
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if isinstance(step, MeanFill) or type(step).__module__.startswith("sklearn.impute"):
                return True
            if step not in (None, "passthrough") and not takes_nan(step):
                return False
        return True
    try:
        return bool(get_tags(estimator).input_tags.allow_nan)
    except (AttributeError, TypeError):
        return True


def to_dense(table: Any) -> Any:
    """Return a table as an array."""
    return table.toarray() if sparse.issparse(table) else np.asarray(table)


def side_by_side(tables: list[Any]) -> Any:
    """Return the columns of all tables; CSR where all are, or where few values are stored."""
    if not any(sparse.issparse(table) for table in tables):
        return np.hstack(tables) if len(tables) > 1 else tables[0]
    stored = sum(table.nnz if sparse.issparse(table) else table.size for table in tables)
    dense = [table for table in tables if not sparse.issparse(table)]
    if dense and stored >= _SPARSE_DENSITY * sum(table.shape[0] * table.shape[1] for table in tables):
        return np.hstack([to_dense(table) for table in tables])
    return sparse.hstack(tables, format="csr")


def present_rows(values: Values, present: Any) -> Values:
    """Return the rows of `values` that have the modality: what anything is learnt from."""
    if not present.all():
        return take(values, np.flatnonzero(present))
    # An array that lies by column, as a DataFrame's does, is added up in another order.
    by_column = isinstance(values, np.ndarray) and values.flags.f_contiguous and not values.flags.c_contiguous
    return np.ascontiguousarray(values) if by_column else values


class FittedOnPresent:
    """A transformer fitted on the rows that have the modality, applied to those; the other rows come out as zeros.

    Parameters
    ----------
    transformer : transformer
        Unfitted; fitted here (it is not cloned).
    rows : array, CSR matrix or DataFrame
        The modality's values in the rows that have it (see `present_rows`); at least one.
    y : array-like, default=None
        The target of those rows, for supervised transformers.
    """

    def __init__(self, transformer: Any, rows: Values, y: Any = None) -> None:
        self.transformer = transformer.fit(rows, y)
        one = self._transform(take(rows, slice(1)))
        self.shape = tuple(one.shape[1:])
        self.dtype = one.dtype
        self.sparse = sparse.issparse(one)

    @property
    def counts(self) -> CountStatistics | None:
        """What training says of counts that are passed on as they came; else None."""
        return self.transformer.statistics_ if isinstance(self.transformer, Counts) else None

    @property
    def groups(self) -> list[int] | None:
        """The feature of each column, where one-hot made several of one; else None (see `column_groups`)."""
        return column_groups(self.transformer)

    def apply(self, values: Values, present: Any) -> Any:
        """Return the transformed values (n_samples, …), zeros where the modality is missing; in memory."""
        values = in_memory(values)
        if present.all() and len(present):
            return self._transform(values)
        where = np.flatnonzero(present)
        if self.sparse:
            if not len(where):
                return sparse.csr_matrix((len(present), *self.shape), dtype=self.dtype)
            ones = np.ones(len(where), dtype=self.dtype)
            scatter = sparse.csr_matrix((ones, (where, np.arange(len(where)))), shape=(len(present), len(where)))
            return scatter @ self._transform(take(values, where))
        if not len(where):
            return np.zeros((len(present), *self.shape), dtype=self.dtype)
        there = self._transform(take(values, where))
        out = np.zeros((len(present), *there.shape[1:]), dtype=there.dtype)
        out[where] = there
        return out

    def _transform(self, values: Values) -> Any:
        out = self.transformer.transform(values)
        if isinstance(out, pd.DataFrame):
            return out.to_numpy()
        return out.tocsr() if sparse.issparse(out) else np.asarray(out)


class Prepared:
    """Values in a file that are transformed when they are read.

    Parameters
    ----------
    preprocessor : FittedOnPresent
        What is applied to rows as they are read.
    values : Backed
        The modality's values.
    present : ndarray of bool (n_samples,)
        Who has it.
    """

    def __init__(self, preprocessor: FittedOnPresent, values: Values, present: Any) -> None:
        self.preprocessor, self.values, self.present = preprocessor, values, present
        self.places = values.places

    def read(self, rows: Any) -> Any:
        """Return the transformed values of the samples at `rows` (n,)."""
        return self.preprocessor.apply(self.values.read(rows), self.present[rows])


def _numbers(frame: pd.DataFrame) -> list[int]:
    """Return the positions of the columns of numbers, booleans among them, as in a DataFrame of nothing else."""
    return [i for i, dtype in enumerate(frame.dtypes) if pd.api.types.is_numeric_dtype(dtype)]


def _categories(frame: pd.DataFrame) -> list[int]:
    """Return the positions of all other columns."""
    return [i for i, dtype in enumerate(frame.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]


class _FrameColumns(OneToOneFeatureMixin, ArrayTransformer, BaseEstimator):
    """Base of what has nothing to learn of columns of a DataFrame."""

    def fit(self, X: Any, y: Any = None) -> Any:
        self.n_features_in_ = X.shape[1]
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class _ToFloat(_FrameColumns):
    """Numeric columns of a DataFrame, nullable ones included, to a float array."""

    def transform(self, X: Any) -> Any:
        return X.to_numpy(dtype=np.float64, na_value=np.nan)


class _ToObjects(_FrameColumns):
    """Category columns of a DataFrame to an array of objects, NaN where one is missing: pd.NA cannot be sorted."""

    def transform(self, X: Any) -> Any:
        X = X.astype(object)
        return X.where(X.notna(), np.nan).to_numpy()
