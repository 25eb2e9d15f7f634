"""What the joint classifier and the joint regressor share: from checked input to a trained network, and back."""

import copy
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import (
    build_encoder,
    build_fusion,
    build_stand_in,
    build_trunk,
    by_modality,
    fit_preprocessor,
    resolve,
    shares_encoder,
)
from skfusion._compat import integer, options, real
from skfusion._targets import training_set
from skfusion.encoders import TOKENIZERS
from skfusion.modalities import Modalities, check_modalities
from skfusion.objectives import OBJECTIVES

_RESERVED = ("fusion", "global")
_MIN_SAMPLES_TO_HOLD_OUT = 50


class JointFusionBase(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "modality_dropout": [real(0, 1), dict, options("curriculum")],
        "fill_missing": [options("token", "prior"), callable, None],
        "n_hidden": [integer(1)],
        "n_latent": [integer(1)],
        "n_layers": [integer(0)],
        "n_heads": [integer(1)],
        "n_fusion_layers": [integer(1)],
        "unimodal_heads": ["boolean"],
        "balance": [options("none", "gradient_blending", "ogm")],
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
        "objectives": [list, tuple, None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    net_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32
        return tags

    # fitting

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Train encoders, fusion and head.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples; those of weight 0 are left out.
        groups : array-like of shape (n_samples,), default=None
            Donors, patients and the like; early stopping holds out whole ones.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), or where training diverges.
        """
        if self.warm_start and hasattr(self, "net_"):
            return self._continue(X, y, sample_weight, groups, epochs=self.max_epochs)
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, groups, numeric=not self._is_classifier)
        target = self._learn_target(data.y, data.sample_weight)
        self._start(data, target)
        return self._train(data, target, self.max_epochs, self.scheduler, self.early_stopping)

    @fits
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train for one more epoch, at a constant learning rate; the first call sets the network up.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            Some samples. The first call learns scaling from them, so let it be a fair sample.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target.
        classes : array-like of shape (n_classes,), default=None
            All classes there will be; needed in the first call of a classifier where `y` lacks some.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self
            The fitted estimator.
        """
        if hasattr(self, "net_"):
            return self._continue(X, y, sample_weight, None, epochs=1, scheduler=None, early_stopping=False)
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, numeric=not self._is_classifier)
        target = self._learn_target(data.y, data.sample_weight, classes)
        self._start(data, target)
        return self._train(data, target, 1, None, False)

    def _continue(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, *, epochs: int, **options: Any
    ) -> "JointFusionBase":
        X = check_modalities(self, X, y, reset=False)
        data = training_set(self, X, y, sample_weight, groups, numeric=not self._is_classifier)
        # A copy, so that a failing fit leaves the old network as it was.
        self.net_ = copy.deepcopy(self.net_)
        network, supervised = self.network_, self.net_.criterion_[0]
        if (self.balance != "none" or self.unimodal_heads) and not network.head_names:
            raise ValueError(
                "unimodal_heads and balance need heads that the network of the last fit lacks; set warm_start=False."
            )
        network.modality_dropout, network.drop_token = self._dropout_by_modality(network.names), self.drop_token
        self.net_.precision, self.net_.compile_network = self.precision, self.compile
        if supervised.balance != self.balance:
            supervised.balance, supervised.blend = self.balance, {}
        if self.batch_size != "auto":
            self.net_.batch_size = self.batch_size
        self.net_.set_lr(self.lr)
        options = {"scheduler": self.scheduler, "early_stopping": self.early_stopping, **options}
        return self._train(data, self._encode_target(data.y), epochs, **options)

    def _start(self, data: Any, target: Any) -> None:
        """Fit the preprocessing and build the network."""
        from skfusion.objectives.supervised import Supervised
        from skfusion.training.device import resolve_device, seeded
        from skfusion.training.net import FusionNet

        X = data.X
        clash = [name for name in X.names if name in _RESERVED]
        if clash:
            raise ValueError(f"a modality is called {clash[0]!r}, which is the name of a head; rename it.")
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        device = resolve_device(self.device)
        with seeded(seed, device):
            network = self._build_network(*self._build_encoders(data, seed))
            supervised = Supervised(
                _without_reduction(self.criterion),
                n_classes=network.n_classes,
                label_smoothing=getattr(self, "label_smoothing", 0.0),
                balance=self.balance,
            )
            given = [
                resolve("objectives", o, OBJECTIVES)() if isinstance(o, str) else copy.deepcopy(o)
                for o in self.objectives or ()
            ]
            of_fusion = [resolve("objectives", name, OBJECTIVES) for name in getattr(network.fusion, "objectives", ())]
            # One that was given stands in for the fusion's own of its class.
            own = [made() for made in of_fusion if not any(isinstance(objective, made) for objective in given)]
            for objective in (*own, *given):
                if hasattr(objective, "prepare"):
                    objective.prepare(network.n_classes, self.n_latent)
            self.net_ = FusionNet(
                network,
                [supervised, *own, *given],
                seed=seed,
                optimizer=self.optimizer,
                weight_decay=self.weight_decay,
                scheduler=self.scheduler,
                lr=self.lr,
                max_epochs=self.max_epochs,
                batch_size=_batch_size(self.batch_size, len(X)),
                callbacks=[copy.deepcopy(callback) for callback in self.callbacks or ()],
                device=device,
                verbose=int(self.verbose),
                precision=self.precision,
                compile_network=self.compile,
            )

    def _build_encoders(self, data: Any, seed: int) -> tuple[dict[str, Any], Any]:
        """Fit what comes before each encoder, and build it; `pretrained` brings both for what it knows, and a trunk."""
        X = data.X
        specs = by_modality("encoders", self.encoders, X.names)
        if shares_encoder(self.encoders):
            specs = {name: TOKENIZERS.get(X.kind(name), TOKENIZERS["dense"]) for name in X.names}
        source = None if self.pretrained is None else clone(self.pretrained).fit(X, data.y)
        self.preprocessors_, encoders = {}, {}
        for name, spec in specs.items():
            if source is not None and name in source.preprocessors_:
                self.preprocessors_[name] = source.preprocessors_[name]
                encoders[name] = copy.deepcopy(source.network_.encoders[source.network_.names.index(name)])
                continue
            preprocessor = fit_preprocessor(X, name, spec, data.y, scale=self.scale, random_state=seed)
            self.preprocessors_[name] = preprocessor
            encoders[name] = build_encoder(
                spec,
                X,
                name,
                preprocessor.shape,
                self.n_latent,
                n_hidden=self.n_hidden,
                n_layers=self.n_layers,
                dropout_rate=self.dropout_rate,
                groups=preprocessor.groups,
            )
        if source is None or source.network_.trunk is None:
            return encoders, None
        odd = [name for name, encoder in encoders.items() if encoder.n_out != source.n_latent]
        if odd:
            raise ValueError(
                f"the modalities {odd} have tokens {self.n_latent} wide, but the shared encoder of pretrained takes "
                f"{source.n_latent}; set n_latent={source.n_latent}."
            )
        return encoders, copy.deepcopy(source.network_.trunk)

    def _build_network(self, encoders: dict[str, Any], trunk: Any) -> Any:
        """Put a fusion and heads behind the encoders."""
        from skfusion.fusion.network import FusionNetwork, head_widths

        widths = {name: encoder.n_out for name, encoder in encoders.items()}
        sizes = {"dropout_rate": self.dropout_rate, "n_heads": self.n_heads}
        if trunk is None:
            trunk = build_trunk(self.encoders, self.n_latent, max(self.n_layers, 1), **sizes)
        fusion = build_fusion(self.fusion, widths, self.n_latent, n_fusion_layers=self.n_fusion_layers, **sizes)
        if self.fill_missing is not None and getattr(fusion, "fills_missing", False):
            raise ValueError(
                f"fill_missing is {self.fill_missing!r}, but fusion={self.fusion!r} has what stands in for a missing "
                "modality itself; leave fill_missing at None, or choose another fusion."
            )
        heads = {}
        if self.unimodal_heads or self.balance != "none" or getattr(fusion, "predicts_by_head", False):
            found = head_widths(fusion, widths)
            lacking = [name for name in encoders if name not in found]
            if lacking:
                raise ValueError(
                    f"unimodal_heads and balance need an embedding of each modality, but the heads of "
                    f"{type(fusion).__name__} lack {lacking}; due is FusionOutput(heads={{name: embedding}})."
                )
            own = [*encoders, *(["global"] if getattr(fusion, "global_apart", False) else [])]
            heads = {name: self._build_head(found[name]) for name in own}
        return FusionNetwork(
            encoders,
            fusion,
            self._build_head(self.n_latent),
            heads=heads,
            trunk=trunk,
            stand_in=build_stand_in(self.fill_missing, widths),
            modality_dropout=self._dropout_by_modality(list(encoders)),
            drop_token=self.drop_token,
            n_classes=self._n_classes_by_output(),
        )

    def _dropout_by_modality(self, names: list[str]) -> Any:
        """Return `modality_dropout` with a rate for every modality, where it is a dict."""
        if not isinstance(self.modality_dropout, dict):
            return self.modality_dropout
        rates = by_modality("modality_dropout", self.modality_dropout, names, 0.0)
        for name, rate in rates.items():
            if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
                raise ValueError(f"modality_dropout[{name!r}] is {rate!r}; due is a number from 0 to below 1.")
        return rates

    def _train(self, data: Any, target: Any, epochs: int, scheduler: Any, early_stopping: bool) -> "JointFusionBase":
        from skfusion.training.device import seeded
        from skfusion.training.net import early_stopping as stop_early

        net = self.net_
        weight = self._weights(data)
        train = self._tensors(data.X, target, weight)
        held_out = None
        if early_stopping or self.balance == "gradient_blending":
            held_out = self._hold_out(data, net.seed)
        net.max_epochs, net.scheduler = epochs, scheduler
        stopper = []
        if early_stopping and held_out is not None:
            stopper = [("early_stopping", stop_early(self.n_iter_no_change).initialize())]
        before = net.callbacks_
        net.callbacks_ = before + stopper
        # Epochs before this call shift the seed, so that a second call sees other dropout than the first.
        with seeded(net.seed + len(net.history), net.device):
            pair = (train, None) if held_out is None else (train.subset(held_out[0]), train.subset(held_out[1]))
            net.partial_fit(pair)
        net.callbacks_ = before
        self._learn_embedding_means(train)
        return self

    def _hold_out(self, data: Any, seed: int) -> Any:
        """Return the rows to train and to validate on; None where there are too few to hold some out."""
        n_samples = len(data.X)
        if n_samples < _MIN_SAMPLES_TO_HOLD_OUT:
            return None
        options = {"n_splits": 1, "test_size": self.validation_fraction, "random_state": seed}
        if data.groups is not None:
            if len(np.unique(data.groups)) < 2:
                return None
            return next(GroupShuffleSplit(**options).split(np.zeros(n_samples), groups=data.groups))
        if not self._is_classifier or data.y.ndim == 2:
            return next(ShuffleSplit(**options).split(np.zeros(n_samples)))
        try:
            return next(StratifiedShuffleSplit(**options).split(np.zeros(n_samples), data.y))
        except ValueError:  # a class with one member, or fewer places than classes
            return None

    def _weights(self, data: Any) -> Any:
        weight = data.sample_weight
        class_weight = getattr(self, "class_weight", None)
        if class_weight is not None:
            by_class = compute_sample_weight(class_weight, data.y)
            weight = by_class if weight is None else weight * by_class
        return None if weight is None else weight / weight.mean()

    def _tensors(self, X: Modalities, target: Any = None, weight: Any = None) -> Any:
        from skfusion.training.batches import TensorData

        values = {
            name: self.preprocessors_[name].apply(X[name], X.present[:, column]) for column, name in enumerate(X.names)
        }
        return TensorData(values, X.present, self.net_.device, target, weight)

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
        return self.embed(X, "fusion")

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
        X = check_modalities(self, X, reset=False)
        out = np.concatenate([o.heads[head].float().cpu().numpy() for o in self.net_.outputs(self._tensors(X))])
        empty = ~(X.present.any(axis=1) if head in _RESERVED else X.present[:, X.names.index(head)])
        out[empty] = self.embedding_means_[head]
        return out

    def _learn_embedding_means(self, train: Any) -> None:
        """Learn what stands in where a head has nothing to go by."""
        present = train.present.cpu().numpy()
        columns = {name: present[:, m] for m, name in enumerate(self.modality_names_in_)}
        sums: dict[str, Any] = {}
        start, finite = 0, True
        for output in self.net_.outputs(train):
            finite = self.network_.final(output).isfinite().all() & finite
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

    def _raw_predictions(self, X: Modalities, head: str | None = None) -> Any:
        network = self.network_
        if head is None or head == "fusion":
            predict = network.final
        elif head in network.head_names:
            predict = partial(network.predict, head=head)
        else:
            raise ValueError(
                f"head is {head!r}; due is one of {['fusion', *network.head_names]}. unimodal_heads=True gives every "
                "modality a prediction of its own, as 'zorro', 'bottleneck', 'irene' and 'unseen' do."
            )
        return np.concatenate([predict(o).cpu().double().numpy() for o in self.net_.outputs(self._tensors(X))])

    def _lacks(self, X: Modalities, head: str | None) -> Any:
        """Which samples have nothing that a head could predict from."""
        if head in X.names:
            return ~X.present[:, X.names.index(head)]
        return ~X.present.any(axis=1)

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


def _batch_size(batch_size: Any, n_samples: int) -> int:
    """About thirty batches an epoch, from 32 to 1024 samples each, a power of two."""
    if batch_size != "auto":
        return int(batch_size)
    return int(np.clip(2 ** np.round(np.log2(max(n_samples, 1) / 30)), 32, 1024))


def _without_reduction(criterion: Any) -> Any:
    """Return a copy of a torch loss that gives one value a sample, so that weights apply."""
    if criterion is None:
        return None
    criterion = criterion() if isinstance(criterion, type) else copy.deepcopy(criterion)
    if not hasattr(criterion, "reduction"):
        raise TypeError(
            f"criterion is {criterion!r}; due is a torch loss with a reduction, such as nn.CrossEntropyLoss()."
        )
    criterion.reduction = "none"
    return criterion
