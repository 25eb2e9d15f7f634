"""What estimators with a network share: from checked input to a trained network, and from there to embeddings."""

import copy
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, get_tags
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator
from skfusion._build import (
    build_encoder,
    build_fusion,
    build_stand_in,
    build_trunk,
    by_modality,
    fit_preprocessor,
    shares_encoder,
)
from skfusion._compat import as_asked, integer, options, real
from skfusion.encoders import TOKENIZERS
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.backed import is_backed
from skfusion.modalities.kinds import KINDS
from skfusion.preprocessing import FittedOnPresent, Prepared

RESERVED = ("fusion", "global")
"""Heads that are no modality's."""


class NetworkEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator):
    """Base of estimators that train encoders and a fusion."""

    _parameter_constraints = {
        "modality_dropout": [real(0, 1), dict, options("curriculum")],
        "fill_missing": [options("token", "prior"), callable, None],
        "n_hidden": [integer(1)],
        "n_latent": [integer(1)],
        "n_layers": [integer(0)],
        "n_heads": [integer(1)],
        "n_fusion_layers": [integer(1)],
        "drop_token": [real(0, 1, closed="left")],
        "precision": [options("float32", "bf16")],
        "compile": ["boolean"],
        "dropout_rate": [real(0, 1)],
        "scale": ["boolean"],
        "lr": [real(0, closed="neither")],
        "max_epochs": [integer(1)],
        "batch_size": [integer(1), options("auto")],
        "optimizer": [options("adamw"), callable],
        "weight_decay": [real(0)],
        "scheduler": [options("one_cycle"), callable, None],
        "early_stopping": ["boolean"],
        "validation_fraction": [real(0, 1, closed="neither")],
        "n_iter_no_change": [integer(1)],
        "callbacks": [list, tuple, None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _reads_in_chunks = True
    net_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32
        return tags

    # building

    def _fit_pretrained(self, X: Modalities, y: Any, seed: int) -> Any:
        """Return the fitted estimator that `pretrained` stands for, None where there is none."""
        given = self.pretrained
        if given is None:
            return None
        is_frozen = isinstance(given, FrozenEstimator)
        if not isinstance(given.estimator if is_frozen else given, NetworkEstimator):
            raise TypeError(
                f"pretrained is {given!r}, which has no network_; due is a joint estimator or a MultimodalPretrainer, "
                "or FrozenEstimator of a fitted one."
            )
        source = clone(given)
        if is_frozen:
            return source.fit(X, y)
        if source.random_state is None:
            source.set_params(random_state=seed)
        if source.device == "auto":
            source.set_params(device=self.device)
        try:
            return source.fit(X, y)
        except ValueError as error:
            if y is not None or not get_tags(source).target_tags.required:
                raise
            raise ValueError(
                f"pretrained is a {type(given).__name__}, which learns from labels, and there are none here; fit it "
                "first, and pass FrozenEstimator(it)."
            ) from error

    def _build_encoders(self, X: Modalities, y: Any, seed: int, source: Any = None) -> tuple[dict[str, Any], Any]:
        """Fit what comes before each encoder, and build it, and a trunk; `source` brings those that it knows."""
        clash = [name for name in X.names if name in RESERVED]
        if clash:
            raise ValueError(f"a modality is called {clash[0]!r}, which is the name of a head; rename it.")
        specs = by_modality("encoders", self.encoders, X.names)
        if shares_encoder(self.encoders):
            specs = {name: TOKENIZERS.get(X.kind(name), TOKENIZERS["dense"]) for name in X.names}
        self.preprocessors_: dict[str, Any] = {}
        encoders: dict[str, Any] = {}
        self._handed_over: list[str] = []
        if source is not None and not set(X.names) & set(source.preprocessors_):
            raise ValueError(
                f"pretrained knows the modalities {list(source.preprocessors_)}, and X has none of them but {X.names}; "
                "call them the same, or leave pretrained at None."
            )
        for name, spec in specs.items():
            if source is not None and name in source.preprocessors_:
                self._require_same(name, source)
                self.preprocessors_[name] = source.preprocessors_[name]
                self._handed_over.append(f"encoders.{len(encoders)}")
                encoders[name] = source.network_.part(source.network_.encoder_path(name))
                continue
            preprocessor = fit_preprocessor(X, name, spec, y, scale=self.scale, random_state=seed)
            self.preprocessors_[name] = preprocessor
            encoders[name] = build_encoder(
                spec,
                X,
                name,
                preprocessor.shape,
                self.n_latent,
                n_hidden=self.n_hidden,
                n_layers=self.n_layers,
                dropout_rate=self._hidden_dropout,
                groups=preprocessor.groups,
                counts=preprocessor.counts,
            )
        if source is None or source.network_.trunk is None:
            sizes = {"dropout_rate": self._hidden_dropout, "n_heads": self.n_heads}
            return encoders, build_trunk(self.encoders, self.n_latent, max(self.n_layers, 1), **sizes)
        odd = [name for name, encoder in encoders.items() if encoder.n_out != source.n_latent]
        if odd:
            raise ValueError(
                f"the modalities {odd} have tokens {self.n_latent} wide, but the shared encoder of pretrained takes "
                f"{source.n_latent}; set n_latent={source.n_latent}."
            )
        self._handed_over.append("trunk")
        return encoders, source.network_.part("trunk")

    def _require_same(self, name: str, source: Any) -> None:
        """Raise where a modality is not what `source` was fitted on."""
        own, theirs = (estimator._modality_specs_[name] for estimator in (self, source))
        if (own.kind, own.n_features) != (theirs.kind, theirs.n_features):
            raise ValueError(
                f"modality {name!r} is {KINDS[own.kind]} of {own.n_features} features, but pretrained was fitted on "
                f"{KINDS[theirs.kind]} of {theirs.n_features}; pass the same, or give it another name."
            )

    def _build_fusion(self, encoders: dict[str, Any], source: Any = None) -> Any:
        """Build the fusion; `source` brings the weights of one that is built alike, or its own."""
        from skfusion.fusion.network import handed_over

        takes_theirs = isinstance(self.fusion, str) and self.fusion == "pretrained"
        if takes_theirs:
            fusion = self._fusion_of(source, encoders)
        else:
            fusion = build_fusion(
                self.fusion,
                _widths(encoders),
                self.n_latent,
                dropout_rate=self._hidden_dropout,
                n_heads=self.n_heads,
                n_fusion_layers=self.n_fusion_layers,
            )
        if self.fill_missing is not None and getattr(fusion, "fills_missing", False):
            raise ValueError(
                f"fill_missing is {self.fill_missing!r}, but fusion={self.fusion!r} has what stands in for a missing "
                "modality itself; leave fill_missing at None, or choose another fusion."
            )
        self._require_classes(fusion)
        if takes_theirs or (source is not None and handed_over(source.network_, fusion, list(encoders))):
            self._handed_over.append("fusion")
        return fusion

    def _require_classes(self, fusion: Any) -> None:
        """Raise where a fusion decides about the classes of one output, and there are none, or several outputs."""
        n_classes = self._n_classes_by_output()
        if not getattr(fusion, "classifies_only", False) or (n_classes is not None and len(n_classes) == 1):
            return
        came = "learns no classes" if n_classes is None else f"was given a y of {len(n_classes)} outputs"
        raise ValueError(
            f"fusion is {self.fusion!r}, which combines decisions about the classes of one output, but "
            f"{type(self).__name__} {came}; due is a JointFusionClassifier with y (n_samples,). Choose another fusion, "
            "such as 'mean'" + ("." if n_classes is None else ", or fit one classifier an output.")
        )

    def _n_classes_by_output(self) -> list[int] | None:
        """Return the number of classes of each output; None where there are no classes."""
        return None

    def _fusion_of(self, source: Any, encoders: dict[str, Any]) -> Any:
        """Return the fusion of `source`, for those of its modalities that there are."""
        from skfusion.fusion.within import Within

        if source is None:
            raise ValueError("fusion is 'pretrained', but pretrained is None; due is an estimator with a fusion.")
        theirs = source.network_
        unknown = [name for name in encoders if name not in theirs.names]
        if unknown:
            raise ValueError(
                f"fusion is 'pretrained', but pretrained knows {theirs.names} alone, and X has {unknown} as well; "
                "pretrain on all, or choose a fusion that is trained here."
            )
        if source.n_latent_ != self.n_latent:
            raise ValueError(
                f"fusion is 'pretrained', whose embeddings are {source.n_latent_} wide, but n_latent is "
                f"{self.n_latent}; set n_latent={source.n_latent_}."
            )
        fusion = theirs.part("fusion")
        if list(encoders) == theirs.names:
            return fusion
        return Within(fusion, _widths(dict(zip(theirs.names, theirs.encoders))))

    def _parts_to_freeze(self, network: Any) -> list[str]:
        """Return the paths of what `freeze` names, all of which `pretrained` brought."""
        freeze = getattr(self, "freeze", False)
        if isinstance(freeze, (list, tuple)):
            unknown = [name for name in freeze if name not in network.names]
            if unknown:
                raise ValueError(f"freeze names {unknown}; due are modalities among {network.names}.")
        if not freeze:
            return []
        if self.pretrained is None:
            raise ValueError(f"freeze is {freeze!r}, but pretrained is None, so that there is nothing to keep.")
        encoders = {network.encoder_path(name): f"the encoder of {name!r}" for name in network.names}
        others = {"fusion": "the fusion"} if network.trunk is None else {"fusion": "the fusion", "trunk": "the trunk"}
        if isinstance(freeze, (list, tuple)):
            parts = [network.encoder_path(name) for name in freeze]
        elif freeze == "encoders":
            parts = [part for part in self._handed_over if part != "fusion"] or list(encoders)
        else:
            parts = [*encoders, *others]
        lacking = [called for part, called in (encoders | others).items() if part in set(parts) - {*self._handed_over}]
        if lacking:
            raise ValueError(
                f"freeze is {freeze!r}, but pretrained does not bring {', '.join(lacking)}, whose weights would stay "
                "as they were drawn. Freeze fewer parts (freeze='encoders' or a list of modalities that pretrained "
                "knows); its fusion comes along under fusion='pretrained'."
            )
        return parts

    def _assemble(self, encoders: dict[str, Any], trunk: Any, fusion: Any, **heads: Any) -> Any:
        """Put a network together."""
        from skfusion.fusion.network import FusionNetwork

        return FusionNetwork(
            encoders,
            fusion,
            trunk=trunk,
            stand_in=build_stand_in(self.fill_missing, _widths(encoders)),
            modality_dropout=self._dropout_by_modality(list(encoders)),
            drop_token=self.drop_token,
            **heads,
        )

    def _setting(self, network: Any) -> Any:
        """Return what objectives are told."""
        from skfusion.fusion.network import head_widths
        from skfusion.objectives.context import Setting

        known = self.preprocessors_
        return Setting(
            network,
            {name: known[name].shape for name in network.names},
            head_widths(network.fusion, _widths(dict(zip(network.names, network.encoders)))),
            {name: known[name].groups for name in network.names},
            {name: known[name].counts for name in network.names},
        )

    def _build_net(self, network: Any, objectives: dict[str, Any], *, batch_size: int, device: Any, seed: int) -> Any:
        """Build what trains a network."""
        from skfusion.training.net import FusionNet

        return FusionNet(
            network,
            objectives,
            seed=seed,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            scheduler=self.scheduler,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=batch_size,
            callbacks=[copy.deepcopy(callback) for callback in self.callbacks or ()],
            device=device,
            verbose=int(self.verbose),
            precision=self.precision,
            compile_network=self.compile,
            layer_decay=getattr(self, "layer_decay", 1.0),
        )

    def _run_net(
        self, train: Any, held_out: Any, epochs: int, scheduler: Any, early_stopping: bool, watcher: Any = None
    ) -> None:
        """Train for `epochs`.

        `held_out` is a pair of rows to train and to validate on, or None; `watcher` is a callback more.
        """
        from skfusion.training.device import seeded
        from skfusion.training.net import early_stopping as stop_early

        net = self.net_
        net.max_epochs, net.scheduler = epochs, scheduler
        stopper = []
        if early_stopping and held_out is not None:
            stopper = [("early_stopping", stop_early(self.n_iter_no_change).initialize())]
        before = net.callbacks_
        net.callbacks_ = before + stopper + ([] if watcher is None else [("watcher", watcher.initialize())])
        # Epochs before this call shift the seed, so that a second call sees other dropout than the first.
        with seeded(net.seed + len(net.history), net.device):
            net.partial_fit((train, None) if held_out is None else tuple(train.subset(rows) for rows in held_out))
        net.callbacks_ = before
        self._learn_embedding_means(train)

    @property
    def _hidden_dropout(self) -> float:
        """Share of hidden units dropped in training."""
        return float(self.dropout_rate)

    def _dropout_by_modality(self, names: list[str]) -> Any:
        """Return `modality_dropout` with a rate for every modality, where it is a dict."""
        if not isinstance(self.modality_dropout, dict):
            return self.modality_dropout
        rates = by_modality("modality_dropout", self.modality_dropout, names, 0.0)
        for name, rate in rates.items():
            if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
                raise ValueError(f"modality_dropout[{name!r}] is {rate!r}; due is a number from 0 to below 1.")
        return rates

    def _tensors(self, X: Modalities, target: Any = None, weight: Any = None) -> Any:
        from skfusion.training.batches import TensorData
        from skfusion.training.stream import StreamData

        values: dict[str, Any] = {}
        for name, present in zip(X.names, X.present.T):
            preprocessor = self.preprocessors_[name]
            prepare = Prepared if is_backed(X[name]) else FittedOnPresent.apply
            values[name] = prepare(preprocessor, X[name], present)
        counts = [name for name, preprocessor in self.preprocessors_.items() if preprocessor.counts is not None]
        kind = StreamData if any(is_backed(X[name]) for name in X.names) else TensorData
        return kind(values, X.present, self.net_.device, target, weight, counts=counts)

    # what was fitted

    @property
    def network_(self) -> Any:
        """The trained `FusionNetwork`."""
        return self.net_.module_

    @property
    def history_(self) -> Any:
        """Skorch's history: losses and seconds of each epoch."""
        return self.net_.history

    @property
    def n_iter_(self) -> int:
        """Number of epochs trained."""
        return len(self.net_.history)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_latent_)

    def transform(self, X: Any) -> Any:
        """Return the fused embedding.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray of float32 (n_samples, n_latent)
            A sample with nothing present gets the mean of the training samples.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return as_asked(self, self._embed(X, "fusion"), X.sample_ids)

    def embed(self, X: Any, head: str = "fusion") -> Any:
        """Return the embedding of one head.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        head : str, default="fusion"
            ``"fusion"``, ``"global"``, or a modality's name.

        Returns
        -------
        ndarray of float32 (n_samples, width)
            A sample without what the head needs gets the mean of the training samples.
        """
        check_is_fitted(self)
        if head not in self.embedding_means_:
            raise ValueError(f"head is {head!r}; due is one of {list(self.embedding_means_)}.")
        return self._embed(check_modalities(self, X, reset=False), head)

    def _embed(self, X: Modalities, head: str) -> Any:
        out = np.concatenate([o.heads[head].float().cpu().numpy() for o in self.net_.outputs(self._tensors(X))])
        out[~self._has(X, head)] = self.embedding_means_[head]
        return out

    def _has(self, X: Modalities, head: str) -> Any:
        """Which samples have what a head needs, (n_samples,)."""
        return X.present[:, X.names.index(head)] if head in X.names else X.present.any(axis=1)

    def _learn_embedding_means(self, train: Any) -> None:
        """Learn what stands in where a head has nothing to go by."""
        present = train.present.cpu().numpy()
        columns = {name: present[:, m] for m, name in enumerate(self.modality_names_in_)}
        sums: dict[str, Any] = {}
        start, finite = 0, True
        for output in self.net_.outputs(train):
            probe = self.network_.final(output) if self.network_.predicts else output.fused
            finite = probe.isfinite().all() & finite
            stop = start + len(output.fused)
            for head, embedding in output.heads.items():
                there = columns[head][start:stop] if head in columns else slice(None)
                part = embedding.cpu().double().numpy()[there].sum(axis=0)
                sums[head] = sums.get(head, 0) + part
            start = stop
        # No loss has seen what the last steps made of the weights.
        if not finite:
            raise self.net_.diverged("the predictions after the last step are not finite")
        counts = {head: int(columns[head].sum()) if head in columns else len(present) for head in sums}
        # Samples that training goes on with may lack a modality that it started with.
        before = getattr(self, "embedding_means_", {})
        self.embedding_means_ = {
            head: (s / counts[head]).astype(np.float32) if counts[head] else before[head] for head, s in sums.items()
        }
        self.n_latent_ = len(self.embedding_means_["fusion"])

    def attention_maps(self, X: Any) -> Bunch:
        """Return who attended to whom, by modality.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        Bunch
            maps : ndarray of float32 (n_samples, n_names, n_names)
                The share of attention that the tokens of each row's modality gave to each column's, averaged over
                tokens, heads and layers; NaN where a sample has no such token. Rows add up to 1.
            mean : DataFrame of shape (n_names, n_names)
                The mean over samples that have the row's modality.
            names : list of str
                The modalities, and ``"fusion"`` and ``"global"`` where the fusion has such tokens.

        Raises
        ------
        ValueError
            Where the fusion has no attention.
        """
        from skfusion.training.attention import attention_maps

        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        names, maps = attention_maps(self.net_, self._tensors(X))
        if maps is None:
            raise ValueError(
                f"fusion={self.fusion!r} has no attention to show. Those that have are 'attention', 'early_concat', "
                "'cross_attention', 'zorro', 'bottleneck', 'irene' and others; see the guide on fusions."
            )
        count = (~np.isnan(maps)).sum(axis=0)
        mean = np.nansum(maps, axis=0) / np.where(count, count, np.nan)
        frame = pd.DataFrame(mean, index=pd.Index(names, name="from"), columns=pd.Index(names, name="to"))
        return Bunch(maps=maps, mean=frame, names=names)


def batch_size(asked: Any, n_samples: int, *, n_batches: int, smallest: int) -> int:
    """Return `asked`, or for "auto" about so many batches an epoch, from `smallest` to 1024 samples, a power of two."""
    if asked != "auto":
        return int(asked)
    return int(np.clip(2 ** np.round(np.log2(max(n_samples, 1) / n_batches)), smallest, 1024))


def _widths(encoders: dict[str, Any]) -> dict[str, int]:
    """Return how wide the tokens of each modality are."""
    return {name: encoder.n_out for name, encoder in encoders.items()}
