"""From an estimator's parameters to a network: preprocessing, encoders, and fusion by name."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from skfusion._base import FusionEstimator, seeded_clone
from skfusion.encoders import DEFAULTS, ENCODERS
from skfusion.fusion import FUSIONS
from skfusion.modalities import Modalities
from skfusion.modalities.backed import in_memory, is_backed
from skfusion.modalities.kinds import KINDS, kind_of
from skfusion.objectives import OBJECTIVES
from skfusion.preprocessing import (
    ChannelScaler,
    Counts,
    FittedOnPresent,
    MeanFill,
    holds_counts,
    present_rows,
    table_preprocessor,
    takes_nan,
)

N_TO_PREPARE = 20_000
"""Samples that preprocessing learns from where the values lie in a file."""
_NUMBERS = ("dense", "sparse", "sequence", "image", "volume")


def by_modality(parameter: str, spec: Any, names: list[str], default: Any = "auto") -> dict[str, Any]:
    """Spread `spec`, one for all or a dict by modality, over `names`."""
    if not isinstance(spec, Mapping):
        return dict.fromkeys(names, spec)
    unknown = [name for name in spec if name not in names]
    if unknown:
        raise ValueError(f"{parameter} names the modalities {unknown}, which X lacks; X has {names}.")
    return {name: spec.get(name, default) for name in names}


def resolve(parameter: str, name: str, registry: Mapping[str, str]) -> Any:
    """Return the class that `registry` has for `name`; an unknown name lists those that exist."""
    if name not in registry:
        raise ValueError(f"{parameter} is {name!r}; due is one of {sorted(registry)}.")
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)


def is_module(spec: Any) -> bool:
    """Whether `spec` is a torch module, asked without importing torch."""
    return any(c.__module__ == "torch.nn.modules.module" and c.__name__ == "Module" for c in type(spec).__mro__)


def is_transformer(spec: Any) -> bool:
    """Whether `spec` is an extractor in scikit-learn's sense."""
    return hasattr(spec, "fit") and hasattr(spec, "transform") and not isinstance(spec, type)


class ForModality:
    """Feeds one modality to an extractor: as an array, or by name where the extractor is one of ours.

    Single NaN are filled with the training mean, unless the extractor takes them; padding stays padding. One of ours
    that embeds several modalities gives this one's own embedding: its fused one would be that of a sample that lacks
    all others, and contrast, say, never trains it.
    """

    def __init__(self, extractor: Any, name: str) -> None:
        self.extractor, self.name = extractor, name
        self.by_name = isinstance(getattr(extractor, "estimator", extractor), FusionEstimator)
        self.fill: Any = None

    def fit(self, values: Any, y: Any = None) -> "ForModality":
        """Fit the extractor on the rows of the modality."""
        kind = kind_of(values)
        if not self.by_name and kind in _NUMBERS and not takes_nan(self.extractor):
            axis = 2 if kind == "sequence" else 1
            self.fill = (MeanFill() if kind in ("dense", "sparse") else ChannelScaler(axis, scale=False)).fit(values)
        self.extractor = self.extractor.fit(self._input(values), y)
        return self

    def transform(self, values: Any) -> Any:
        """Transform rows of the modality."""
        if self.by_name and hasattr(self.extractor, "embed") and len(self.extractor.modality_names_in_) > 1:
            return self.extractor.embed(self._input(values), self.name)
        return self.extractor.transform(self._input(values))

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of what the extractor gives."""
        return self.extractor.get_feature_names_out(*(() if self.by_name else (input_features,)))

    def _input(self, values: Any) -> Any:
        if self.by_name:
            return Modalities({self.name: values})
        return values if self.fill is None else self.fill.transform(values)


def fit_extractor(
    parameter: str, extractor: Any, X: Modalities, name: str, y: Any, *, random_state: Any
) -> FittedOnPresent:
    """Fit a clone of an extractor on the rows of `X` that have the modality; what it raises names the two.

    Where it brings no seed, `random_state` gives it one; None gives none.
    """
    rows, chosen = training_rows(X, name)
    there = y if y is None or chosen.all() else np.asarray(y)[chosen]
    try:
        if random_state is None:
            copied = clone(extractor)
        else:
            seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
            copied = seeded_clone(extractor, seed)
        return FittedOnPresent(ForModality(copied, name), rows, there)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # memory that ran out, or what is not implemented: the values are not at fault
        shown = " ".join(repr(extractor).split())
        raise ValueError(
            f"{parameter}[{name!r}] is {shown}, which fails on modality {name!r} ({KINDS[X.kind(name)]}, shape "
            f"{rows.shape} where present): {error}"
        ) from error


def fit_embedding(
    parameter: str, spec: Any, X: Modalities, name: str, y: Any, *, device: Any, random_state: Any
) -> FittedOnPresent:
    """Fit what turns a modality into a table: a transformer, a frozen module, "autoencoder", "auto", or None.

    None leaves tables as they are, and makes one of what is none.
    """
    from skfusion.extractors import Autoencoder, FrozenModule

    if is_module(spec):
        spec = FrozenModule(spec, device)
    elif isinstance(spec, str) and spec == "autoencoder":
        spec = Autoencoder(device=device, random_state=random_state)
    if is_transformer(spec):
        return fit_extractor(parameter, spec, X, name, y, random_state=random_state)
    if spec is not None and spec != "auto":
        raise ValueError(
            f"{parameter}[{name!r}] is {spec!r}; due is None, 'auto', 'autoencoder', a transformer or nn.Module."
        )
    rows, _ = training_rows(X, name)
    if spec is None and X.kind(name) in ("dense", "sparse"):
        return FittedOnPresent(MeanFill(), rows)
    preprocessor = table_preprocessor(name, rows, scale=spec == "auto", random_state=random_state)
    return FittedOnPresent(preprocessor, rows)


def fit_preprocessor(X: Modalities, name: str, spec: Any, y: Any, *, scale: bool, random_state: Any) -> FittedOnPresent:
    """Fit what comes before the encoder `spec` of a joint network."""
    if is_transformer(spec):
        return fit_extractor("encoders", spec, X, name, y, random_state=random_state)
    rows, _ = training_rows(X, name)
    if X.kind(name) in ("sequence", "image", "volume"):
        channels = 2 if X.kind(name) == "sequence" else 1
        n_raw = _count_raw(spec, name, X.kind(name))
        return FittedOnPresent(ChannelScaler(axis=channels, scale=scale, n_raw=n_raw), rows)
    takes_counts = _takes_counts(spec, name, X.kind(name))
    if takes_counts and X.kind(name) in ("dense", "sparse") and holds_counts(rows):
        return FittedOnPresent(Counts(), rows)
    preprocessor = table_preprocessor(name, rows, scale=scale, project=not takes_counts, random_state=random_state)
    return FittedOnPresent(preprocessor, rows)


def training_rows(X: Modalities, name: str) -> tuple[Any, Any]:
    """Return the rows of a modality to learn from, and which of the samples they are; none at all raises.

    Of values in a file these are some, evenly drawn, so that memory does not grow with the number of samples.
    """
    chosen = require_present(name, X.present[:, X.names.index(name)])
    if is_backed(X[name]) and chosen.sum() > N_TO_PREPARE:
        drawn = np.random.default_rng(0).choice(np.flatnonzero(chosen), N_TO_PREPARE, replace=False)
        chosen = np.isin(np.arange(len(X)), drawn)
    return in_memory(present_rows(X[name], chosen)), chosen


def require_present(name: str, present: Any) -> Any:
    """Raise where no training sample has the modality."""
    if not present.any():
        raise ValueError(
            f"modality {name!r} is missing for every training sample, so nothing can be learnt from it; leave it out "
            "(X.drop, or modalities=[...]) or give samples that have it."
        )
    return present


def _encoder_class(spec: Any, name: str, kind: str) -> tuple[Any, dict[str, Any]]:
    """Return the encoder class that `spec` stands for, and the options that it sets; None where it stands for none.

    It stands for one by its name, as the class itself, or as a functools.partial of the class.
    """
    set_options = spec.keywords if isinstance(spec, partial) else {}
    found = spec.func if isinstance(spec, partial) else spec
    if isinstance(found, str):
        if found == "shared":
            raise ValueError(f"encoders[{name!r}] is 'shared', which is for all modalities at once: encoders='shared'.")
        found = resolve(f"encoders[{name!r}]", DEFAULTS[kind] if found == "auto" else found, ENCODERS)
    return (found if isinstance(found, type) and hasattr(found, "kinds") else None), set_options


def _count_raw(spec: Any, name: str, kind: str) -> int:
    """Return how many of the last channels the encoder `spec` wants as they came."""
    encoder, set_options = _encoder_class(spec, name, kind)
    if encoder is None:
        return int(getattr(spec, "n_raw", 0))
    return encoder.count_raw(**set_options) if hasattr(encoder, "count_raw") else 0


def _takes_counts(spec: Any, name: str, kind: str) -> bool:
    """Whether the encoder `spec` wants counts as they came."""
    if is_module(spec) or (isinstance(spec, str) and spec == "auto"):
        return getattr(spec, "takes_counts", False)
    return getattr(_encoder_class(spec, name, kind)[0], "takes_counts", False)


def build_encoder(spec: Any, X: Modalities, name: str, shape: tuple[int, ...], n_latent: int, **options: Any) -> Any:
    """Build the encoder of a modality whose prepared samples have `shape`; a partial's own options go first."""
    from skfusion.encoders.pretrained import Wrapped

    if is_transformer(spec):
        spec = "identity"
    if is_module(spec):
        encoder = copy.deepcopy(spec)
        return encoder if hasattr(encoder, "n_out") and hasattr(encoder, "kinds") else Wrapped(encoder, shape, name)
    kind = X.kind(name) if len(shape) > 1 else "dense"
    encoder, set_options = _encoder_class(spec, name, kind)
    if encoder is None:
        raise TypeError(
            f"encoders[{name!r}] is {spec!r}; due is one of {sorted(ENCODERS)}, 'auto', an nn.Module or a transformer; "
            "or an encoder class, or functools.partial of one."
        )
    if kind not in encoder.kinds:
        takers = [n for n in ENCODERS if kind in resolve("encoders", n, ENCODERS).kinds]
        called = spec if isinstance(spec, str) else encoder.__name__
        raise ValueError(
            f"modality {name!r} is {KINDS[kind]}, but the encoder {called!r} takes "
            f"{' or '.join(KINDS[k] for k in encoder.kinds)}. "
            + (f"Use {' or '.join(map(repr, takers))}." if takers else "Pass an nn.Module that takes it.")
        )
    _require_named(encoder, set_options, known=options)
    return encoder(shape, n_latent, **{**options, **set_options})


def build_fusion(spec: Any, widths: dict[str, int], n_latent: int, **options: Any) -> Any:
    """Build the fusion over tokens of `widths`; a partial's own options go first."""
    if is_module(spec):
        return copy.deepcopy(spec)
    if isinstance(spec, str):
        spec = resolve("fusion", spec, FUSIONS)
    if not callable(spec):
        raise TypeError(
            f"fusion is {spec!r}; due is one of {sorted(FUSIONS)}, a fusion class, functools.partial of one, or an "
            "nn.Module."
        )
    set_options = spec.keywords if isinstance(spec, partial) else {}
    if isinstance(spec, partial):
        _require_named(spec.func, set_options)
    return spec(widths, n_latent, **{**options, **set_options})


def fusion_class(spec: Any) -> Any:
    """Return what `spec` builds a fusion with, a class or a function, or the module that it is."""
    if isinstance(spec, partial):
        return spec.func
    return resolve("fusion", spec, FUSIONS) if isinstance(spec, str) and spec in FUSIONS else spec


def build_stand_in(spec: Any, widths: dict[str, int]) -> Any:
    """Build what stands in for a missing modality, if anything does."""
    if spec is None or is_module(spec):
        return copy.deepcopy(spec)
    if isinstance(spec, str):
        from skfusion.fusion.missing import STAND_INS

        spec = resolve("fill_missing", spec, STAND_INS)
    return spec(widths)


def build_objectives(specs: Any) -> dict[str, Any]:
    """Return objectives by name: `specs` holds names, classes, functools.partial of them, or instances to be copied.

    One that is no name is called as its class is in `skfusion.objectives.OBJECTIVES`; a second one gets a number.
    """
    built: dict[str, Any] = {}
    for spec in specs or ():
        if isinstance(spec, str):
            objective, name = resolve("objectives", spec, OBJECTIVES)(), spec
        else:
            objective = copy.deepcopy(spec) if is_module(spec) or not callable(spec) else spec()
            called = type(objective).__name__
            name = next((n for n, where in OBJECTIVES.items() if where.endswith(f":{called}")), called)
        lacking = [method for method in ("views", "loss") if not hasattr(objective, method)]
        if lacking:
            raise TypeError(
                f"objectives holds {spec!r}, which has no {lacking[0]}; due is one of {sorted(OBJECTIVES)}, or an "
                "nn.Module with views and loss."
            )
        count = sum(other.rpartition("_")[0] == name or other == name for other in built)
        built[name if not count else f"{name}_{count + 1}"] = objective
    return built


def prepared(objectives: Mapping[str, Any], setting: Callable[[], Any]) -> None:
    """Tell objectives that ask what they are to learn from; `setting` is called where one does."""
    asking = [objective for objective in objectives.values() if hasattr(objective, "prepare")]
    told = setting() if asking else None
    for objective in asking:
        objective.prepare(told)


def _require_named(function: Any, keywords: Iterable[str], known: Iterable[str] = ()) -> None:
    """Raise on a keyword that `function` takes only since it takes any, and that is not `known` to all of its kind."""
    named = _named_parameters(function) | set(known)
    unknown = sorted(set(keywords) - named)
    if unknown:
        raise TypeError(f"{function.__name__} has no parameter {unknown[0]!r}; due is one of {sorted(named)}.")


def _named_parameters(function: Any) -> set[str]:
    """Return the keywords that a class, its bases, or a function name in their signatures."""
    inits = [vars(c)["__init__"] for c in getattr(function, "__mro__", ()) if "__init__" in vars(c)] or [function]
    named = {
        parameter.name
        for init in inits
        if inspect.isfunction(init)
        for parameter in inspect.signature(init).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY or parameter.default is not parameter.empty
    }
    return named


def build_trunk(encoders: Any, n_latent: int, n_layers: int, *, dropout_rate: float, n_heads: int) -> Any:
    """Build what all modalities' tokens go through where they share an encoder, else None."""
    if not shares_encoder(encoders):
        return None
    from skfusion.encoders.transformer import Transformer
    from skfusion.fusion.blocks import SHARE_IN_BLOCKS

    return Transformer(n_latent, n_heads, n_layers, SHARE_IN_BLOCKS * dropout_rate)


def shares_encoder(encoders: Any) -> bool:
    """Whether all modalities share an encoder, each behind a tokenizer of its own."""
    return isinstance(encoders, str) and encoders == "shared"
