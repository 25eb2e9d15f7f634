"""Filling in missing modalities."""

from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits, seeded_clone
from skfusion._build import by_modality, fit_embedding, require_present, resolve
from skfusion._compat import HasMethods, OfferedIf, as_asked, check_feature_names_in, options, output_container
from skfusion._targets import drop_empty
from skfusion.imputation import STRATEGIES, forms
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import NUMERIC, flat, mean_r2
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.check import SINGLE
from skfusion.modalities.kinds import take
from skfusion.modalities.selection import Selection
from skfusion.preprocessing import MeanFill, present_rows, to_dense

Fill = Callable[[str, Any], Any]
"""Values of a modality for rows that lack it."""


def _require_distribution(imputer: "ModalityImputer") -> None:
    """Raise where the strategy cannot draw, and name those that can."""
    strategy = imputer.strategy
    if isinstance(strategy, str):
        strategy = resolve("strategy", strategy, STRATEGIES)
    if not hasattr(strategy, "draw"):
        able = [name for name in STRATEGIES if hasattr(resolve("strategy", name, STRATEGIES), "draw")]
        raise AttributeError(f"strategy {imputer.strategy!r} is no distribution; those that are: {able}.")


class ModalityImputer(TransformerMixin, FusionEstimator):
    """Fill modalities that are missing from those that are present.

    Single NaN inside a present row are filled with the training mean of their column, or 0 where training has none.

    Parameters
    ----------
    strategy : str or Strategy, default="conversion"
        What fills: "conversion" (networks from the modalities present to the missing one, by squared error [1]_),
        "linear" (ridge), "regressor" (any scikit-learn regressor), "factor" (a linear-Gaussian latent), "knn", "mean",
        "zero", "vae", "gan", "diffusion" or "average" (of several). An instance from `skfusion.imputation`, such as
        ``Neighbors(n_neighbors=1)``, brings its own parameters.
    output : {"same", "modalities", "array"}, default="same"
        "same" is the form that came in: an array or DataFrame for one table, else a Modalities. "array" is all columns
        side by side, which any scikit-learn estimator takes, and what ``set_output(transform="pandas")`` implies.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    encoders : dict of str to transformer or nn.Module, or estimator with `embed`, default=None
        What turns modalities into embeddings first; these are then what is filled, and what comes out. A dict of
        scikit-learn transformers by modality, or an estimator whose ``embed(X, name)`` embeds a modality, such as
        ``FrozenEstimator(pretrainer)``; each modality is embedded by itself, and one that it does not know stays as it
        is. They are cloned and fitted, unless frozen.
    device : str or torch.device, default="auto"
        Where networks are trained.
    n_jobs : int or None, default=None
        Fits that run at once, in "regressor".
    random_state : int, RandomState or None, default=None
        For strategies that draw, train, or split the samples, and for estimators and encoders that bring no seed.
    verbose : int, default=0
        1 shows the progress of networks.

    Attributes
    ----------
    strategy_ : Strategy
        The fitted strategy.
    uncertainty_ : dict of str to ndarray (n_values,)
        Of strategies that know it: the standard deviation of what would be filled, a modality, from the others of the
        training samples, on average.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Ma, "Multi-modality deep learning", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Neighbors
    >>> X = {"a": np.array([[1.0], [3.0], [4.0]]), "b": np.array([[10.0], [30.0], [np.nan]])}
    >>> ModalityImputer(Neighbors(n_neighbors=1)).fit_transform(X)["b"]
    array([[10.],
           [30.],
           [30.]])
    """

    _parameter_constraints = {
        "strategy": [str, Strategy],
        "output": [options("same", "modalities", "array")],
        "encoders": [Mapping, HasMethods(["fit", "embed"]), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        strategy: Any = "conversion",
        *,
        output: str = "same",
        modalities: Any = None,
        encoders: Any = None,
        device: Any = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.strategy = strategy
        self.output = output
        self.modalities = modalities
        self.encoders = encoders
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def set_params(self, **params: Any) -> Any:
        """Set parameters, nested ones included; those of a strategy that is a name raise."""
        strategy = params.get("strategy", self.strategy)
        nested = [path for path in params if path.startswith("strategy__")]
        if nested and isinstance(strategy, str):
            instance = resolve("strategy", strategy, STRATEGIES).__name__
            raise ValueError(
                f"Invalid parameter {nested[0]!r}: strategy is the name {strategy!r}, which has no parameters. Pass an "
                f"instance, strategy={instance}() of skfusion.imputation, whose parameters can be set."
            )
        return super().set_params(**params)

    @fits
    def fit(self, X: Any, y: Any = None) -> "ModalityImputer":
        """Learn to fill each modality.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : array-like, default=None
            Given to encoders that are fitted here; strategies never use labels.

        Returns
        -------
        self
            The fitted imputer.
        """
        came, X = X, check_modalities(self, X, y, reset=True)
        self._layout = self._layout_of(came) if forms.is_one_table(came) else None
        for stale in ("encoders_", "uncertainty_"):
            self.__dict__.pop(stale, None)
        keep = drop_empty(X, np.ones(len(X), dtype=bool))
        if not keep.all():
            X, y = X[keep], None if y is None else np.asarray(y)[keep]
        for column, name in enumerate(X.names):
            require_present(name, X.present[:, column])
        strategy = self.strategy
        strategy = resolve("strategy", strategy, STRATEGIES)() if isinstance(strategy, str) else clone(strategy)
        strategy._validate_params()
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        X = self._fit_encoders(X, y, seed)
        if self._form(self._layout is not None) == "array":
            self._require_numbers(X)
        self._require_fillable(X, strategy)
        self._single_fills = {
            name: MeanFill().fit(flat(present_rows(X[name], present)))
            for name, present in zip(X.names, X.present.T)
            if X.kind(name) in NUMERIC
        }
        # What is not numeric can be copied from a neighbour alone; elsewhere it must be complete.
        names = [n for n in X.names if X.kind(n) in NUMERIC or strategy.copies]
        if not names:
            raise ValueError(
                f"X has no modality of numbers but {X.names}; strategy {self.strategy!r} fills numbers alone. Use "
                "strategy='knn', which copies from the nearest sample."
            )
        settings = Settings(seed, self.device, self.n_jobs, int(self.verbose))
        X = self._with_singles_filled(X)
        self.strategy_ = strategy.fit(X, names, settings)
        self._output_names = forms.column_names(X)
        if hasattr(self.strategy_, "mean_spread"):
            self.uncertainty_ = {name: self.strategy_.mean_spread(X, name) for name in self._single_fills}
        return self

    def _fit_encoders(self, X: Modalities, y: Any, seed: int) -> Modalities:
        """Fit what embeds the modalities, and embed them."""
        if self.encoders is None:
            return X
        if isinstance(self.encoders, Mapping):
            specs = by_modality("encoders", self.encoders, X.names, None)
            options = {"device": self.device, "random_state": self.random_state}
            self.encoders_ = {
                n: fit_embedding("encoders", spec, X, n, y, **options) for n, spec in specs.items() if spec is not None
            }
        else:
            self.encoders_ = seeded_clone(self.encoders, seed).fit(X, y)
        return self._embed(X)

    def _embed(self, X: Modalities) -> Modalities:
        if self.encoders is None:
            return X
        data: dict[str, Any] = {}
        for name, present in zip(X.names, X.present.T):
            if not isinstance(self.encoders_, Mapping):
                # Alone, since in some fusions a modality's embedding has seen the others.
                known = name in getattr(self.encoders_, "modality_names_in_", X.names)
                data[name] = self.encoders_.embed(X.select([name]), name) if known else X[name]
            else:
                data[name] = self.encoders_[name].apply(X[name], present) if name in self.encoders_ else X[name]
        columns = {name: None if data[name] is not X[name] else X._columns[name] for name in X.names}
        return Modalities._of(data, columns, X.present, X.sample_ids)

    def transform(self, X: Any) -> Any:
        """Return `X` with every modality of every sample filled.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples; a modality that is absent is missing for all.

        Returns
        -------
        Modalities, ndarray, CSR matrix or DataFrame
            By `output`; a DataFrame with the columns of the one of fit. A sample with nothing present gets the training
            means, and 0 under "zero".
        """
        check_is_fitted(self)
        known = self._known(X)
        if hasattr(self.strategy_, "fill_all"):
            fill = self._from_tables(known, self.strategy_.fill_all)
        else:

            def fill(name: str, rows: Any) -> Any:
                return self.strategy_.fill(known[rows], name)

        return self._formed(X, self._complete(known, fill))

    @partial(OfferedIf, _require_distribution)
    def sample(self, X: Any, n_samples: int = 1) -> list[Any]:
        """Fill by draws from the distribution of what is missing, given what is present.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        n_samples : int, default=1
            How many draws.

        Returns
        -------
        list
            So many times what `transform` returns, each filled with another draw. What a sample lacks is drawn
            together.
        """
        check_is_fitted(self)
        known = self._known(X)
        return [self._formed(X, self._complete(known, fill)) for fill in self._draws(known, n_samples)]

    def _draws(self, known: Modalities, n_samples: int, least: int = 1) -> Any:
        """Yield what fills, once a draw."""
        if not isinstance(n_samples, Integral) or n_samples < least:
            raise ValueError(f"n_samples is {n_samples!r}; due is a whole number from {least} on.")
        rng = np.random.default_rng(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        for _ in range(n_samples):
            yield self._from_tables(known, lambda some: self.strategy_.draw(some, rng))

    def _from_tables(self, known: Modalities, make: Callable[[Modalities], dict[str, Any]]) -> Fill:
        """Return what fills from the tables that `make` makes of the samples that lack a modality."""
        lacking = ~known.present.all(axis=1)
        place, some = np.cumsum(lacking) - 1, known[np.flatnonzero(lacking)]
        tables = make(some) if len(some) else {}

        def fill(name: str, rows: Any) -> Any:
            return take(tables[name], place[rows]) if name in tables else self.strategy_.fill(known[rows], name)

        return fill

    def uncertainty(self, X: Any, n_samples: int = 20) -> dict[str, Any]:
        """Return the standard deviation of what is filled.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        n_samples : int, default=20
            Draws that it is taken from, where the strategy has no formula for it; at least 2.

        Returns
        -------
        dict of str to ndarray (n_samples, n_values)
            By numeric modality; 0 where it is present.
        """
        check_is_fitted(self)
        known = self._known(X)
        if hasattr(self.strategy_, "spread"):
            return self._laid_out(known, lambda name, rows: self.strategy_.spread(known[rows], name))
        _require_distribution(self)
        # By Welford's sums, so that two draws are held at a time, however many there are.
        means: dict[str, Any] = {}
        squares: dict[str, Any] = {}
        for count, fill in enumerate(self._draws(known, n_samples, least=2), start=1):
            for name, table in self._laid_out(known, fill).items():
                step = table - means.get(name, 0)
                means[name] = means.get(name, 0) + step / count
                squares[name] = squares.get(name, 0) + step * (table - means[name])
        return {name: np.sqrt(total / (n_samples - 1)) for name, total in squares.items()}

    def _laid_out(self, known: Modalities, fill: Fill) -> dict[str, Any]:
        """Return dense tables of all samples, 0 where a modality is present."""
        tables = {}
        for name in self._single_fills:
            rows = np.flatnonzero(~known.present[:, known.names.index(name)])
            tables[name] = np.zeros((len(known), len(self._single_fills[name].means_)))
            if len(rows):
                tables[name][rows] = to_dense(fill(name, rows))
        return tables

    def _known(self, X: Any) -> Modalities:
        """Read samples, embed them, and fill single NaN."""
        return self._with_singles_filled(self._embed(check_modalities(self, X, reset=False)))

    def _formed(self, X: Any, filled: Modalities) -> Any:
        form = self._form(forms.is_one_table(X))
        if form == "table":
            layout = self._layout
            if layout is None or layout.labels is None or not isinstance(X, pd.DataFrame):
                layout = self._layout_of(X)
            return forms.like_table(X, filled, layout)
        if form == "modalities":
            return filled
        self._require_numbers(filled)
        return as_asked(self, forms.all_columns(filled), filled.sample_ids)

    def _require_numbers(self, X: Modalities) -> None:
        """Raise where the table that is asked for, and by what, would hold what is no number."""
        container = output_container(self)
        if container == "default":
            forms.require_numbers(X, "output='array'", "'modalities'")
        else:
            forms.require_numbers(X, f"set_output(transform={container!r})", "set_output(transform='default')")

    def _form(self, is_table: bool) -> str:
        """Return what is handed out, "table", "modalities" or "array", where one table comes, or something else."""
        if output_container(self) != "default":
            return "array"
        if self.output != "same":
            return self.output
        if not is_table:
            return "modalities"
        return "table" if self.encoders is None else "array"

    def _layout_of(self, X: Any) -> forms.Layout:
        selection = None
        if isinstance(self.modalities, Mapping):
            # Fitted on a dict, it has none yet.
            selection = getattr(self, "_selection_", None) or Selection.settle(X, self.modalities)
        return forms.Layout.of(X, list(self.modality_names_in_), selection)

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

        Single NaN and padding are not known, and have no say, nor have columns that are constant in `X`.

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
        X = self._embed(check_modalities(self, X, reset=False))
        complete = self._with_singles_filled(X)
        scores = {}
        for column, name in enumerate(X.names):
            if X.kind(name) not in NUMERIC:
                continue
            rows = np.flatnonzero(X.present[:, column])
            if len(rows) < 2:
                scores[name] = float("nan")
                continue
            some = complete[rows]
            hidden = some.present.copy()
            hidden[:, column] = False
            blind = Modalities._of(some._data, some._columns, hidden, some.sample_ids)
            scores[name] = mean_r2(flat(X[name][rows]), self.strategy_.fill(blind, name))
        return scores

    def _complete(self, known: Modalities, fill: Fill) -> Modalities:
        """Fill what is missing; what came is handed out as it came, but for single NaN."""
        self._require_fillable(known, self.strategy_)
        data = {}
        for name, present in zip(known.names, known.present.T):
            data[name], gone = known[name], np.flatnonzero(~present)
            if not len(gone):
                continue
            data[name] = forms.put(data[name], gone, fill(name, gone))
        return Modalities._of(data, known._columns, np.ones_like(known.present), known.sample_ids)

    def _require_fillable(self, X: Modalities, strategy: Strategy) -> None:
        for name, present in zip(X.names, X.present.T):
            if X.kind(name) not in NUMERIC and not strategy.copies and not present.all():
                raise ValueError(
                    f"modality {name!r} is {X.kind(name)} and missing for {int((~present).sum())} samples; strategy "
                    f"{self.strategy!r} fills numbers alone. Use strategy='knn', which copies from the nearest sample."
                )

    def _with_singles_filled(self, X: Modalities) -> Modalities:
        """Fill single NaN, so that what converts or compares the present modalities sees what is handed out."""
        data = dict(X._data)
        for name, present in zip(X.names, X.present.T):
            if name in self._single_fills:
                data[name] = forms.fill_singles(self._single_fills[name], X[name], present)
        return Modalities._of(data, X._columns, X.present, X.sample_ids)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the columns of what `transform` returns for the `X` of fit.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of a plain table; not used with several modalities.

        Returns
        -------
        ndarray of str objects
            The columns' own names where a DataFrame comes back as one, or where `X` is a single modality; else
            ``modality__column``, those of ``output="array"``.
        """
        check_is_fitted(self)
        one_table = list(self.modality_names_in_) == [SINGLE] and len(self._modality_specs_[SINGLE].shape) == 1
        if one_table and self.encoders is None:
            return check_feature_names_in(self, input_features)
        if self._layout is not None and self._form(is_table=True) == "table":
            return np.array(self._layout.column_names(), dtype=object)
        return np.array(self._output_names, dtype=object)
