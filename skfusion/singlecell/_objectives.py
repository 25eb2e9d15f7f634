"""Objectives that decode counts, built with what the estimator knows of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from skfusion._build import is_module
from skfusion.objectives import Expression, Generative

_NAMES: dict[Any, str] = {Expression: "expression", Generative: "generative"}


def with_options(specs: Iterable[Any], options: Mapping[str, Any]) -> list[Any]:
    """Build, with `options`, what `specs` hold of "expression" and "generative", by name or class.

    Others are built without, where they come as callables. Of these, one that decodes counts cannot be told of the
    batches of new cells, and raises where there are some.
    """
    return [_build(spec, options) for spec in specs]


def _build(spec: Any, options: Mapping[str, Any]) -> Any:
    for kind, name in _NAMES.items():
        if spec is kind or (isinstance(spec, str) and spec == name):
            return kind(**options)
    built = spec() if callable(spec) and not is_module(spec) else spec
    name = next((name for kind, name in _NAMES.items() if isinstance(built, kind)), "")
    if name and options["covariates"] is not None:
        raise ValueError(
            f"objectives holds {_article(built)} of its own, which knows nothing of batch_key; name it {name!r}, and "
            "set likelihood and dispersion here."
        )
    if name and built.covariates is not None:
        raise ValueError(
            f"objectives holds {_article(built)} with covariates, which nobody knows of new cells; name it {name!r}, "
            "and set batch_key to a column of obs that holds them."
        )
    return built


def _article(built: Any) -> str:
    called = type(built).__name__
    return f"{'an' if called[0] in 'AEIOU' else 'a'} {called}"
