"""What all estimators share: tags, nested parameters inside dicts, and a fit that loses nothing when it fails."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from sklearn.base import BaseEstimator, clone

Method = TypeVar("Method", bound=Callable[..., Any])

_fitting = ContextVar("_fitting", default=False)


def fits(method: Method) -> Method:
    """Check the parameters before a ``fit`` or ``partial_fit``, and restore the fitted state where it fails."""

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = vars(self).copy()
        try:
            self._validate_params()
            with _said_once():
                return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return wrapper  # type: ignore[return-value]


@contextmanager
def _said_once() -> Iterator[None]:
    """Inside the fit of a part, do not repeat what the outer fit has said of the same samples."""
    nested, token = _fitting.get(), _fitting.set(True)
    try:
        with warnings.catch_warnings() if nested else nullcontext():
            if nested:
                warnings.filterwarnings("ignore", message="single values are missing", category=UserWarning)
            yield
    finally:
        _fitting.reset(token)


class FusionEstimator(BaseEstimator):
    """Base of all estimators.

    Parameters that are dicts or lists of (name, estimator) expose the parameters of what they hold, the way
    scikit-learn's compositions do: ``estimators={"rna": [("lr", LogisticRegression())]}`` gives ``rna__lr__C``.
    """

    _parameter_constraints: dict[str, Any] = {}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters; with `deep`, also those of estimators inside estimators, dicts and lists."""
        params = super().get_params(deep=deep)
        if deep:
            for value in list(super().get_params(deep=False).values()):
                for path, inner in _walk(value):
                    params.setdefault(path, inner)
        return params

    def set_params(self, **params: Any) -> Any:
        """Set parameters, nested ones included; a dict that was handed in is copied, never changed."""
        own = super().get_params(deep=False)
        nested = {}
        for path in list(params):
            holder = self._holder(path, own)
            if holder is not None:
                nested[path] = params.pop(path)
        if params:
            super().set_params(**params)
        for path, value in nested.items():
            holder = self._holder(path, super().get_params(deep=False))
            if holder is None:
                raise ValueError(f"Invalid parameter {path!r} for estimator {type(self).__name__}.")
            setattr(self, holder, _replace(getattr(self, holder), path, value))
        return self

    def _holder(self, path: str, own: Mapping[str, Any]) -> str | None:
        """Return the parameter in whose dict or list `path` lies; None for one of the estimator's own."""
        if path.partition("__")[0] in own:
            return None
        holders = [name for name, value in own.items() if name != "modalities" and _key_of(value, path) is not None]
        # A dict of weights may have the same keys as one of estimators.
        leading = (name for name in holders if any(path == inner for inner, _ in _walk(own[name])))
        return next(leading, holders[0] if holders else None)


def seeded_clone(estimator: Any, seed: int) -> Any:
    """Return an unfitted copy whose ``random_state``, and those of its parts, are `seed` where they are None."""
    copied = clone(estimator)
    params = copied.get_params()
    unset = [path for path, value in params.items() if path.split("__")[-1] == "random_state" and value is None]
    if unset:
        copied.set_params(**dict.fromkeys(unset, seed))
    return copied


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, list) and value and all(isinstance(v, tuple) and len(v) == 2 for v in value):
        return [(key, inner) for key, inner in value if isinstance(key, str)]
    return []


def _walk(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All (path, value) below a dict or list of (name, estimator), and below the estimators in it."""
    for key, inner in _items(value):
        path = prefix + key
        if _items(inner):
            yield path, inner
            yield from _walk(inner, path + "__")
        elif hasattr(inner, "get_params") and not isinstance(inner, type):
            yield path, inner
            for name, param in inner.get_params(deep=True).items():
                yield f"{path}__{name}", param


def _key_of(value: Any, path: str) -> str | None:
    return next((key for key, _ in _items(value) if path == key or path.startswith(key + "__")), None)


def _replace(value: Any, path: str, new: Any) -> Any:
    """Return a copy of the dict or list `value` with what lies at `path` set to `new`."""
    key = _key_of(value, path)
    if key is None:
        raise ValueError(f"Invalid parameter {path!r}; there are {[name for name, _ in _items(value)]}.")
    inner = dict(_items(value))[key]
    rest = path[len(key) + 2 :]
    if not rest:
        inner = new
    elif _items(inner):
        inner = _replace(inner, rest, new)
    else:
        inner = inner.set_params(**{rest: new})
    if isinstance(value, Mapping):
        return {**value, key: inner}
    return [(name, inner if name == key else old) for name, old in value]
