"""Private names of scikit-learn, and optional packages: the only place that knows either."""

from collections.abc import Callable
from importlib import import_module
from numbers import Integral, Real
from types import MethodType
from typing import Any

import pandas as pd
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "ArrayTransformer",
    "HasMethods",
    "OfferedIf",
    "as_asked",
    "check_feature_names_in",
    "check_sample_weight",
    "integer",
    "on_arrays",
    "optional",
    "options",
    "output_container",
    "real",
]

_EXTRAS = {"matplotlib": "plot", "mudata": "mudata", "zarr": "zarr"}


def optional(module: str) -> Any:
    """Import an optional `module`; where it is missing, say which extra brings it."""
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        extra = _EXTRAS[package]
        raise ImportError(
            f"this needs {package}, which is not installed; pip install 'skfusion[{extra}]' brings it."
        ) from error


def integer(low: int) -> Any:
    """Constraint: an integer of at least `low`."""
    return Interval(Integral, low, None, closed="left")


def real(low: float, high: float | None = None, closed: str = "left") -> Any:
    """Constraint: a number from `low` to `high`."""
    return Interval(Real, low, high, closed=closed)


def options(*names: str) -> Any:
    """Constraint: one of these strings."""
    return StrOptions(set(names))


def output_container(transformer: Any) -> str:
    """Return what ``set_output`` asks a transformer for: "default", "pandas" or "polars"."""
    return str(_get_output_config("transform", transformer)["dense"])


def as_asked(transformer: Any, table: Any, ids: Any) -> Any:
    """Return a table (n_samples, n_columns) as a DataFrame with the `ids` of its samples, where ``set_output`` asks.

    scikit-learn knows the index of a DataFrame alone, and not of a dict, Modalities or AnnData.
    """
    if ids is None or output_container(transformer) != "pandas" or sparse.issparse(table):
        return table
    return pd.DataFrame(table, index=ids, columns=transformer.get_feature_names_out())


def on_arrays(transformer: Any) -> Any:
    """Return a transformer or Pipeline of scikit-learn's that gives arrays or CSR, whatever ``set_config`` asks for.

    The setting is about what estimators hand out, and not about what they compute from. Copies made by ``clone`` do so
    too.
    """
    return transformer.set_output(transform="default")


class ArrayTransformer(TransformerMixin):
    """Base of the transformers that estimators compute with: arrays or CSR come out, as in `on_arrays`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**{"auto_wrap_output_keys": None, **options})

    def set_output(self, *, transform: Any = None) -> Any:
        """Change nothing; a Pipeline asks all its steps."""
        return self


class OfferedIf:
    """A method that an estimator has if `check` of it raises nothing.

    Unlike scikit-learn's ``available_if``, it shows what `check` says, in place of "has no attribute".
    """

    def __init__(self, check: Callable[[Any], None], method: Callable[..., Any]) -> None:
        self.check, self.method = check, method
        self.__doc__ = method.__doc__

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        if estimator is None:
            return self.method
        try:
            self.check(estimator)
        except AttributeError:
            raise
        except Exception as error:
            # Anything else would come out of hasattr.
            raise AttributeError(str(error)) from error
        return MethodType(self.method, estimator)
