"""What a further modality would add: gains that held-out samples had, and forecasts of them from what is present.

Sets of modalities are frozensets of their columns.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skfusion._build import training_rows
from skfusion._compat import on_arrays
from skfusion.modalities import Modalities
from skfusion.preprocessing import FittedOnPresent, Projection, table_preprocessor, to_dense

Columns = frozenset[int]

_ALL_SETS_UP_TO = 6
_BEAM = 8
"""With more modalities than that, so many sets of each size above 2 are looked at: those of the least loss."""
_N_COMPONENTS = 32
_MIN_ROWS = 10
_MAX_ROWS = 2000
"""Rows that a tree is grown on."""
_SMOOTHING = 0.01
"""Share of the prior in each probability, so that no single sample has an infinite loss."""


def log_losses(probabilities: Any, codes: Any, prior: Any) -> Any:
    """Loss (n,) in nats of `probabilities` (n, n_classes), NaN where they are NaN."""
    rows = np.arange(len(codes))
    return -np.log((1 - _SMOOTHING) * probabilities[rows, codes] + _SMOOTHING * prior[codes])


def entropies(probabilities: Any) -> Any:
    """Entropy (n,) in nats of `probabilities` (n, n_classes)."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    return -(probabilities * logs).sum(axis=1)


def held_out(
    predict: Callable[[Columns], Any], n_modalities: int, codes: Any, prior: Any
) -> tuple[dict[Columns, Any], dict[Columns, Any]]:
    """Held-out probabilities (n, n_classes) and losses (n,) of the sets of modalities that gains are learnt for.

    ``predict(columns)`` gives the probabilities of samples that have all of a set, NaN for the others.
    """
    nothing: Columns = frozenset()
    probabilities = {nothing: np.tile(prior, (len(codes), 1))}
    losses = {nothing: log_losses(probabilities[nothing], codes, prior)}
    level: list[Columns] = [nothing]
    for size in range(1, n_modalities + 1):
        grown = sorted({s | {m} for s in level for m in range(n_modalities) if m not in s}, key=sorted)
        found = {s: predict(s) for s in grown}
        lost = {s: log_losses(p, codes, prior) for s, p in found.items()}
        # Single modalities as soon as one sample has them, so that each has a gain.
        level = [s for s in grown if (~np.isnan(lost[s])).sum() >= (1 if size == 1 else _MIN_ROWS)]
        if n_modalities > _ALL_SETS_UP_TO and size > 2:
            level = sorted(level, key=lambda s: float(np.nanmean(lost[s] - losses[nothing])))[:_BEAM]
        probabilities.update((s, found[s]) for s in level)
        losses.update((s, lost[s]) for s in level)
    return probabilities, losses


class Tables:
    """Each modality as a dense table of at most 32 columns: what forecasts see of its values."""

    def __init__(self, X: Modalities, seed: int) -> None:
        self.names, self.fitted = X.names, []
        for name in X.names:
            rows, _ = training_rows(X, name)
            steps = [
                table_preprocessor(name, rows, project=True, random_state=seed),
                FunctionTransformer(to_dense, accept_sparse=True),
            ]
            table = on_arrays(make_pipeline(*steps))
            width = table.fit(rows).transform(rows).shape[1]
            if min(width, rows.shape[0] - 1) > _N_COMPONENTS:
                table = on_arrays(make_pipeline(*steps, Projection(_N_COMPONENTS, random_state=seed)))
            self.fitted.append(FittedOnPresent(table, rows))

    def apply(self, X: Modalities, columns: Columns) -> dict[int, Any]:
        """Tables (n, n_columns) of the modalities `columns`, zeros where a sample lacks it."""
        return {m: self.fitted[m].apply(X[self.names[m]], X.present[:, m]) for m in sorted(columns)}


class _Forecast(NamedTuple):
    """A regressor of what a modality adds, and then of what going on to each of `ahead` adds."""

    model: Any
    ahead: list[int]


class GainForecaster:
    """Forecasts of what each further modality adds, for each set of those that are present.

    Gains are reductions of the log loss of held-out samples. They are regressed, by forests, on the values that are
    present and the probabilities that these give. With `lookahead` 2 so is what a next modality adds beyond its price,
    counted where its own forecast, by trees that had not seen the sample, says that it is worth it.

    Parameters
    ----------
    prices : array of shape (n_modalities,)
        Nats that a modality must bring.
    lookahead : {1, 2}
        Steps.
    jobs : dict
        Given to joblib.
    seed : int
        Of the forests.
    """

    def __init__(self, prices: Any, lookahead: int, jobs: dict[str, Any], seed: int) -> None:
        self.prices, self.lookahead, self.jobs, self.seed = prices, lookahead, jobs, seed

    def fit(self, tables: dict[int, Any], probabilities: Any, losses: dict[Columns, Any], weights: Any) -> Any:
        """Learn from held-out `probabilities` (n, n_classes) and `losses` (n,) of sets of modalities."""
        self.forecasts_: dict[tuple[Columns, int], _Forecast] = {}
        honest: dict[tuple[Columns, int], Any] = {}
        for size in sorted({len(s) for s in losses}, reverse=True):
            level = [s for s in losses if len(s) == size]
            tasks = [(s, m) for s in level for m in range(len(self.prices)) if m not in s and s | {m} in losses]
            targets = [self._targets(s, m, losses, honest) for s, m in tasks]
            tables_of = {s: _features(s, tables, probabilities[s]) for s, _ in tasks}
            fits = Parallel(**self.jobs)(
                delayed(_fit)(tables_of[s], target, weights, self.seed) for (s, _), (target, _) in zip(tasks, targets)
            )
            for (s, m), (_, ahead), (model, forecast) in zip(tasks, targets, fits):
                self.forecasts_[s, m] = _Forecast(model, ahead)
                honest[s, m] = forecast
        return self

    def _targets(self, s: Columns, m: int, losses: dict[Columns, Any], honest: dict[Any, Any]) -> tuple[Any, list[int]]:
        """Return what `m` added (n, 1 + n_ahead), NaN for samples that have not all of it, and the modalities ahead."""
        has = s | {m}
        columns, ahead = [losses[s] - losses[has]], []
        if self.lookahead > 1:
            ahead = [after for after in range(len(self.prices)) if (has, after) in honest]
        for after in ahead:
            forecast = honest[has, after]
            realised = losses[has] - losses[has | {after}]
            # Who lacks it has no realised gain; the forecast was made without that sample.
            realised = np.where(np.isnan(realised), forecast, realised)
            columns.append(np.where(forecast > self.prices[after], realised - self.prices[after], 0.0))
        return np.stack(columns, axis=1), ahead

    def stand_ins(self, s: Columns) -> dict[int, Columns]:
        """Return the set that each further modality is forecast from: `s`, or the largest learnt inside it."""
        inside: dict[int, list[Columns]] = {}
        for known, m in self.forecasts_:
            if known <= s and m not in s:
                inside.setdefault(m, []).append(known)
        return {m: max(sets, key=len) for m, sets in inside.items()}

    def predict(self, s: Columns, tables: dict[int, Any], probabilities: dict[Columns, Any]) -> tuple[Any, Any]:
        """Forecast at `s`: what each modality adds (n, M), and what then going on to another adds (n, M, M).

        `probabilities` (n, n_classes) are those of `s` and of what stands in for it. Modalities in `s` add nothing.
        """
        n_samples, n_modalities = len(probabilities[s]), len(self.prices)
        gains = np.zeros((n_samples, n_modalities))
        going_on = np.zeros((n_samples, n_modalities, n_modalities))
        for m, known in self.stand_ins(s).items():
            forecast = self.forecasts_[known, m]
            found = forecast.model.predict(_features(known, tables, probabilities[known]))
            gains[:, m] = found[:, 0]
            going_on[:, m, forecast.ahead] = found[:, 1:]
        going_on[:, :, sorted(s)] = 0
        return gains, going_on


def _features(s: Columns, tables: dict[int, Any], probabilities: Any) -> Any:
    return np.hstack([*(tables[m] for m in sorted(s)), probabilities])


def _fit(features: Any, targets: Any, weights: Any, seed: int) -> tuple[Any, Any]:
    """Return a model of `targets`, and its forecast (n,) of the first by trees that had not seen the sample."""
    learnt = ~np.isnan(targets).any(axis=1)
    others = ~learnt & ~np.isnan(features).any(axis=1)
    model = _ForestOrMean(seed).fit(features[learnt], targets[learnt], None if weights is None else weights[learnt])
    forecast = np.full(len(features), np.nan)
    forecast[learnt] = model.held_out_[:, 0]
    forecast[others] = model.predict(features[others])[:, 0]
    return model, forecast


class _ForestOrMean:
    """A forest, for outputs that it predicts better than their mean in samples that its trees had not seen.

    Gains of single samples are noisy: a forest alone finds a modality that knows nothing worth a little now and then.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, features: Any, targets: Any, weights: Any) -> "_ForestOrMean":
        """Learn from (n, n_features) and (n, n_outputs); `held_out_` is by trees that had not seen the sample."""
        n_samples, n_outputs = targets.shape
        self.mean_, self.forest_ = np.average(targets, axis=0, weights=weights), None
        self.held_out_ = np.tile(self.mean_, (n_samples, 1))
        if n_samples < _MIN_ROWS or not np.ptp(features, axis=0).any():
            return self
        n_rows = min(n_samples, _MAX_ROWS)
        self.forest_ = RandomForestRegressor(
            min_samples_leaf=int(np.sqrt(n_rows)),
            max_samples=n_rows,
            max_features=0.5,
            oob_score=True,
            random_state=self.seed,
        )
        self.forest_.fit(features, targets[:, 0] if n_outputs == 1 else targets, sample_weight=weights)
        found = self.forest_.oob_prediction_.reshape(n_samples, n_outputs)
        errors = [np.average((targets - said) ** 2, axis=0, weights=weights) for said in (found, self.mean_)]
        self.better_ = errors[0] < errors[1]
        self.held_out_ = np.where(self.better_, found, self.mean_)
        return self

    def predict(self, features: Any) -> Any:
        """Return (n, n_outputs)."""
        if self.forest_ is None or not len(features):
            return np.tile(self.mean_, (len(features), 1))
        return np.where(self.better_, self.forest_.predict(features).reshape(len(features), -1), self.mean_)
