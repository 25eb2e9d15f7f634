"""Joint fusion: encoders, fusion and head trained end to end."""

import copy
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin, clone
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import build_encoder, build_fusion, by_modality, fit_preprocessor
from skfusion._compat import integer, options, real
from skfusion._targets import class_prior, encode_classes, training_set
from skfusion.modalities import Modalities, check_modalities

_RESERVED = ("fusion", "global")
_MIN_SAMPLES_TO_HOLD_OUT = 50


class _JointFusion(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "modality_dropout": [real(0, 1)],
        "n_hidden": [integer(1)],
        "n_latent": [integer(1)],
        "n_layers": [integer(0)],
        "n_heads": [integer(1)],
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32
        return tags

    # ---- fitting

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
    ) -> "_JointFusion":
        X = check_modalities(self, X, y, reset=False)
        data = training_set(self, X, y, sample_weight, groups, numeric=not self._is_classifier)
        # A copy, so that a failing fit leaves the old network as it was.
        self.net_ = copy.deepcopy(self.net_)
        options = {"scheduler": self.scheduler, "early_stopping": self.early_stopping, **options}
        return self._train(data, self._encode_target(data.y), epochs, **options)

    def _start(self, data: Any, target: Any) -> None:
        """Fit the preprocessing and build the network."""
        from skfusion.fusion.network import FusionNetwork
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
        specs = by_modality("encoders", self.encoders, X.names)
        source = None if self.pretrained is None else clone(self.pretrained).fit(X, data.y)
        with seeded(seed, device):
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
                )
            widths = {name: encoder.n_out for name, encoder in encoders.items()}
            fusion = build_fusion(
                self.fusion, widths, self.n_latent, dropout_rate=self.dropout_rate, n_heads=self.n_heads
            )
            head = self._build_head()
            network = FusionNetwork(encoders, fusion, head, modality_dropout=self.modality_dropout)
            supervised = Supervised(
                _without_reduction(self.criterion),
                n_classes=self._n_classes_by_output(),
                label_smoothing=getattr(self, "label_smoothing", 0.0),
            )
            callbacks = [copy.deepcopy(callback) for callback in self.callbacks or ()]
            self.net_ = FusionNet(
                network,
                [supervised, *(copy.deepcopy(o) for o in self.objectives or ())],
                seed=seed,
                optimizer=self.optimizer,
                weight_decay=self.weight_decay,
                scheduler=self.scheduler,
                lr=self.lr,
                max_epochs=self.max_epochs,
                batch_size=_batch_size(self.batch_size, len(X)),
                callbacks=callbacks,
                device=device,
                verbose=int(self.verbose),
            )

    def _train(self, data: Any, target: Any, epochs: int, scheduler: Any, early_stopping: bool) -> "_JointFusion":
        from skfusion.training.device import seeded
        from skfusion.training.net import early_stopping as stop_early

        net = self.net_
        weight = self._weights(data)
        train = self._tensors(data.X, target, weight)
        held_out = None
        if early_stopping:
            held_out = self._hold_out(data, net.seed)
        net.max_epochs, net.scheduler = epochs, scheduler
        stopper = []
        if held_out is not None:
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

    # ---- what was fitted

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
        out = np.concatenate([o.heads[head].cpu().numpy() for o in self.net_.outputs(self._tensors(X))])
        empty = ~(X.present.any(axis=1) if head in _RESERVED else X.present[:, X.names.index(head)])
        out[empty] = self.embedding_means_[head]
        return out

    def _learn_embedding_means(self, train: Any) -> None:
        """Learn what stands in where a head has nothing to go by."""
        present = train.present.cpu().numpy()
        columns = {name: present[:, m] for m, name in enumerate(self.modality_names_in_)}
        sums: dict[str, Any] = {}
        start = 0
        for output in self.net_.outputs(train):
            stop = start + len(output.fused)
            for head, embedding in output.heads.items():
                there = columns[head][start:stop] if head in columns else slice(None)
                part = embedding.double().cpu().numpy()[there].sum(axis=0)
                sums[head] = sums.get(head, 0) + part
            start = stop
        counts = {head: int(columns[head].sum()) if head in columns else len(present) for head in sums}
        self.embedding_means_ = {head: (s / counts[head]).astype(np.float32) for head, s in sums.items()}
        self.n_latent_ = len(self.embedding_means_["fusion"])

    def _raw_predictions(self, X: Modalities) -> Any:
        network = self.network_
        return np.concatenate([network.predict(o).double().cpu().numpy() for o in self.net_.outputs(self._tensors(X))])


class JointFusionClassifier(ClassifierMixin, _JointFusion):
    """Encoders, fusion and classifier trained end to end.

    Every modality has an encoder, their embeddings are fused, and the loss reaches all of it (type I of [1]_; type II
    where a modality enters through "identity" or an extractor).

    Parameters
    ----------
    encoders : "auto", str, nn.Module, transformer or dict by modality, default="auto"
        "auto" goes by the modality's kind: "mlp" for tables (wide CSR is projected to 50 components first), "conv1d"
        for sequences, "conv2d" for images. Others: "linear", "identity". An nn.Module takes the prepared values (B, …)
        as float32 and is copied; a scikit-learn transformer is cloned, fitted on the training data, and no gradient
        reaches it.
    fusion : str or nn.Module, default="concat"
        "concat", "sum", "mean", "product", "gated" or "attention".
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; see the guide on input.
    objectives : list, default=None
        Auxiliary losses beside the supervised one (see `skfusion.objectives`).
    pretrained : estimator, default=None
        Another joint estimator or pretrainer, whose preprocessing and encoders are the start for the modalities that it
        knows. It is cloned and fitted on the training data; ``FrozenEstimator(p)`` keeps its fit.
    modality_dropout : float, default=0.0
        Probability with which a present modality is left out of a sample in training; one is always kept.
    n_hidden : int, default=128
        Width of the encoders' hidden layers.
    n_latent : int, default=64
        Width of the embeddings.
    n_layers : int, default=1
        Hidden layers of an encoder.
    n_heads : int, default=4
        Attention heads, where the fusion has attention.
    dropout_rate : float, default=0.5
        Share of hidden units dropped in training.
    scale : bool, default=True
        Standardise numbers, log-normalise counts.
    label_smoothing : float, default=0.1
        Share of the probability that the loss spreads over all classes.
    lr : float, default=0.003
        Learning rate; its peak under "one_cycle".
    max_epochs : int, default=50
        Passes over the training data.
    batch_size : int or "auto", default="auto"
        "auto" is 32 for a few hundred samples, and grows with their number to 1024.
    optimizer : "adamw", class or functools.partial, default="adamw"
        A torch optimizer.
    weight_decay : float, default=0.01
        Given to optimizers that know it.
    scheduler : "one_cycle", class, functools.partial or None, default="one_cycle"
        A torch learning rate scheduler.
    criterion : nn.Module, default=None
        A torch loss of (predictions, targets); None is cross-entropy.
    early_stopping : bool, default=False
        Hold out a part, stop when its loss no longer improves, and restore the best weights. Nothing is held out below
        50 samples, or where a class cannot be split.
    validation_fraction : float, default=0.1
        The part that is held out.
    n_iter_no_change : int, default=10
        Epochs without improvement before it stops.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes.
    callbacks : list of skorch callbacks, default=None
        They are copied.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    warm_start : bool, default=False
        A further `fit` goes on from the weights of the last one.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, and order of the batches.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of them
        The class labels, a list for a 2-D target.
    net_ : FusionNet
        The skorch net.
    network_ : FusionNetwork
        The torch module.
    history_ : skorch.History
        Losses and seconds of each epoch.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Huang et al., "Fusion of medical imaging and electronic health records using deep learning", npj Digital
       Medicine 3:136, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import JointFusionClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 50)
    >>> X = {"labs": rng.normal(size=(100, 5)) + 2 * y[:, None], "ecg": rng.normal(size=(100, 60, 2))}
    >>> model = JointFusionClassifier(max_epochs=10, random_state=0).fit(X, y)
    >>> model.predict_proba({"labs": X["labs"][:3]}).shape  # without the ECG
    (3, 2)
    >>> model.transform(X).shape
    (100, 64)
    """

    _is_classifier = True
    _parameter_constraints = {
        **_JointFusion._parameter_constraints,
        "label_smoothing": [real(0, 1)],
        "class_weight": [dict, list, options("balanced"), None],
    }

    def __init__(
        self,
        encoders: Any = "auto",
        fusion: Any = "concat",
        *,
        modalities: Any = None,
        objectives: Any = None,
        pretrained: Any = None,
        modality_dropout: float = 0.0,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
        dropout_rate: float = 0.5,
        scale: bool = True,
        label_smoothing: float = 0.1,
        lr: float = 3e-3,
        max_epochs: int = 50,
        batch_size: Any = "auto",
        optimizer: Any = "adamw",
        weight_decay: float = 1e-2,
        scheduler: Any = "one_cycle",
        criterion: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        callbacks: Any = None,
        device: Any = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoders = encoders
        self.fusion = fusion
        self.modalities = modalities
        self.objectives = objectives
        self.pretrained = pretrained
        self.modality_dropout = modality_dropout
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout_rate = dropout_rate
        self.scale = scale
        self.label_smoothing = label_smoothing
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.scheduler = scheduler
        self.criterion = criterion
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray of float64 (n_samples, n_classes), or a list of them
            A list, one an output, where the target was 2-D. A sample with nothing present gets the prior.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        logits = self._raw_predictions(X)
        empty = ~X.present.any(axis=1)
        bounds = np.cumsum([len(prior) for prior in self._priors])[:-1]
        parts = [_softmax(part) for part in np.split(logits, bounds, axis=1)]
        for part, prior in zip(parts, self._priors):
            part[empty] = prior
        return parts if isinstance(self.classes_, list) else parts[0]

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each sample, (n_samples,) or (n_samples, n_outputs)."""
        probabilities = self.predict_proba(X)
        if not isinstance(self.classes_, list):
            return self.classes_[probabilities.argmax(axis=1)]
        return np.stack([c[p.argmax(axis=1)] for c, p in zip(self.classes_, probabilities)], axis=1)

    def _learn_target(self, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        self.classes_, codes = encode_classes(y)
        if classes is not None:
            self.classes_ = np.unique(np.asarray(classes))
            codes = self._encode_target(y)
        columns = codes.T if codes.ndim == 2 else [codes]
        self._priors = [class_prior(c, len(k), sample_weight) for c, k in zip(columns, self._class_lists())]
        return codes

    def _encode_target(self, y: Any) -> Any:
        columns = y.T if y.ndim == 2 else [y]
        codes = []
        for column, classes in zip(columns, self._class_lists()):
            unknown = np.setdiff1d(column, classes)
            if len(unknown):
                raise ValueError(f"y holds classes unknown before: {unknown[:5]}; known are {classes}.")
            codes.append(np.searchsorted(classes, column))
        return np.stack(codes, axis=1) if y.ndim == 2 else codes[0]

    def _class_lists(self) -> list[Any]:
        return self.classes_ if isinstance(self.classes_, list) else [self.classes_]

    def _n_classes_by_output(self) -> list[int]:
        return [len(classes) for classes in self._class_lists()]

    def _build_head(self) -> Any:
        from torch import nn

        return nn.Linear(self.n_latent, sum(self._n_classes_by_output()))


class JointFusionRegressor(RegressorMixin, _JointFusion):
    """Encoders, fusion and regression head trained end to end.

    The target is standardised inside. Everything else is as in `JointFusionClassifier`.

    Parameters
    ----------
    encoders : "auto", str, nn.Module, transformer or dict by modality, default="auto"
        "auto" goes by the modality's kind: "mlp" for tables (wide CSR is projected to 50 components first), "conv1d"
        for sequences, "conv2d" for images. Others: "linear", "identity".
    fusion : str or nn.Module, default="concat"
        "concat", "sum", "mean", "product", "gated" or "attention".
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; see the guide on input.
    objectives : list, default=None
        Auxiliary losses beside the supervised one (see `skfusion.objectives`).
    pretrained : estimator, default=None
        Another joint estimator or pretrainer, whose preprocessing and encoders are the start for the modalities that it
        knows. It is cloned and fitted on the training data; ``FrozenEstimator(p)`` keeps its fit.
    modality_dropout : float, default=0.0
        Probability with which a present modality is left out of a sample in training; one is always kept.
    n_hidden : int, default=128
        Width of the encoders' hidden layers.
    n_latent : int, default=64
        Width of the embeddings.
    n_layers : int, default=1
        Hidden layers of an encoder.
    n_heads : int, default=4
        Attention heads, where the fusion has attention.
    dropout_rate : float, default=0.2
        Share of hidden units dropped in training.
    scale : bool, default=True
        Standardise numbers, log-normalise counts.
    lr : float, default=0.003
        Learning rate; its peak under "one_cycle".
    max_epochs : int, default=50
        Passes over the training data.
    batch_size : int or "auto", default="auto"
        "auto" is 32 for a few hundred samples, and grows with their number to 1024.
    optimizer : "adamw", class or functools.partial, default="adamw"
        A torch optimizer.
    weight_decay : float, default=0.01
        Given to optimizers that know it.
    scheduler : "one_cycle", class, functools.partial or None, default="one_cycle"
        A torch learning rate scheduler.
    criterion : nn.Module, default=None
        A torch loss of (predictions, targets), both standardised; None is the squared error.
    early_stopping : bool, default=False
        Hold out a part, stop when its loss no longer improves, and restore the best weights.
    validation_fraction : float, default=0.1
        The part that is held out.
    n_iter_no_change : int, default=10
        Epochs without improvement before it stops.
    callbacks : list of skorch callbacks, default=None
        They are copied.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    warm_start : bool, default=False
        A further `fit` goes on from the weights of the last one.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, and order of the batches.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    net_ : FusionNet
        The skorch net.
    network_ : FusionNetwork
        The torch module.
    history_ : skorch.History
        Losses and seconds of each epoch.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Huang et al., "Fusion of medical imaging and electronic health records using deep learning", npj Digital
       Medicine 3:136, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import JointFusionRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(200, 3)), "b": rng.normal(size=(200, 2))}
    >>> y = X["a"][:, 0] + X["b"][:, 0]
    >>> JointFusionRegressor(random_state=0).fit(X, y).score(X, y) > 0.8
    True
    """

    _is_classifier = False

    def __init__(
        self,
        encoders: Any = "auto",
        fusion: Any = "concat",
        *,
        modalities: Any = None,
        objectives: Any = None,
        pretrained: Any = None,
        modality_dropout: float = 0.0,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
        dropout_rate: float = 0.2,
        scale: bool = True,
        lr: float = 3e-3,
        max_epochs: int = 50,
        batch_size: Any = "auto",
        optimizer: Any = "adamw",
        weight_decay: float = 1e-2,
        scheduler: Any = "one_cycle",
        criterion: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        callbacks: Any = None,
        device: Any = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoders = encoders
        self.fusion = fusion
        self.modalities = modalities
        self.objectives = objectives
        self.pretrained = pretrained
        self.modality_dropout = modality_dropout
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout_rate = dropout_rate
        self.scale = scale
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.scheduler = scheduler
        self.criterion = criterion
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> Any:
        """Return predictions, float64 (n_samples,) or (n_samples, n_outputs); the mean where nothing is present."""
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        out = self._raw_predictions(X) * self._target_scale + self._target_mean
        out[~X.present.any(axis=1)] = self._target_mean
        return out[:, 0] if self._target_is_1d else out

    def _learn_target(self, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        if classes is not None:
            raise ValueError("classes is given, but a regressor knows none.")
        columns = y.reshape(len(y), -1).astype(np.float64)
        self._target_is_1d = y.ndim == 1
        self._target_mean = np.average(columns, axis=0, weights=sample_weight)
        variance = np.average(np.square(columns - self._target_mean), axis=0, weights=sample_weight)
        self._target_scale = np.where(variance > 0, np.sqrt(variance), 1.0)
        return self._encode_target(y)

    def _encode_target(self, y: Any) -> Any:
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != len(self._target_mean):
            raise ValueError(f"y has {columns.shape[1]} outputs; due are {len(self._target_mean)}, as before.")
        return ((columns - self._target_mean) / self._target_scale).astype(np.float32)

    def _n_classes_by_output(self) -> None:
        return None

    def _build_head(self) -> Any:
        from torch import nn

        return nn.Linear(self.n_latent, len(self._target_mean))


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


def _softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
