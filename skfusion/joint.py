"""Joint fusion: encoders, fusion and head trained end to end."""

from functools import partial
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from skfusion._compat import OfferedIf, options, real
from skfusion._joint import JointFusionBase, require_uncertainty
from skfusion._targets import class_prior, encode_classes
from skfusion.modalities import check_modalities


class JointFusionClassifier(ClassifierMixin, JointFusionBase):
    """Encoders, fusion and classifier trained end to end.

    Every modality has an encoder, their embeddings are fused, and the loss reaches all of it (type I of [1]_; type II
    where a modality enters through "identity" or an extractor).

    Parameters
    ----------
    encoders : "auto", str, nn.Module, transformer or dict by modality, default="auto"
        "auto" goes by the modality's kind: "mlp" for tables (wide CSR is projected to 50 components first), "conv1d"
        for sequences, "conv2d" for images, "conv3d" for volumes. Others: "linear", "identity". An nn.Module takes the
        prepared values (B, …) as float32 and is copied; a scikit-learn transformer is cloned, fitted on the training
        data, and no gradient reaches it. Encoders of several tokens are "tokens" and "patches" for tables, "steps" and
        "regions" for sequences, "patch2d" and "patch3d"; "shared", for all, is one transformer behind a tokenizer of
        each. An encoder may come as a class or ``functools.partial`` of one.
    fusion : str, class, functools.partial or nn.Module, default="concat"
        A name of `skfusion.fusion.FUSIONS`: of embeddings "concat", "sum", "mean", "product", "gated", "attention",
        "tensor", "low_rank", "select", "shared_specific", "drfuse", "mixture_of_experts", "evidential"; of tokens
        "early_sum", "early_concat", "hierarchical", "hierarchical_split", "cross_attention", "cross_attention_concat",
        "protst", "irene", "bottleneck", "zorro", "everything_at_once", "unseen", "optimal_transport". The guide on
        fusions says when to choose which. "pretrained" is that of `pretrained`, whatever it is, weights and all; it
        needs the same `n_latent`, and `X` may have fewer modalities than it knows, never more.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; see the guide on input.
    objectives : list, default=None
        Auxiliary losses beside the supervised one, by name, such as "ranking", or as instances (see
        `skfusion.objectives`).
    pretrained : estimator, default=None
        Another joint estimator or `MultimodalPretrainer`, whose preprocessing and encoders are the start for the
        modalities that it knows. Its fusion comes along where `fusion` is of the same class over the same modalities in
        the same order, or "pretrained"; else the fusion is new, as the default "concat" is after a pretrainer with
        "zorro". It is cloned and fitted on the training data; ``FrozenEstimator(p)`` keeps its fit.
    freeze : bool, "encoders" or list of str, default=False
        Which parts that `pretrained` brings keep its weights to the bit, without dropout. True is encoders and fusion,
        so that the heads alone train (a linear probe), and needs all of them from `pretrained`; "encoders" is those
        that it brings, a list the encoders of these modalities. A further fit under `warm_start` may thaw them.
    layer_decay : float, default=1.0
        Learning rates fall by this factor with each layer below the heads, which train with `lr`: the fusion is the
        first, then the layers of the shared encoder, if there is one, and of the encoders, the last one first. Below 1,
        say .7, fine-tuning leaves more of what `pretrained` has learnt.
    modality_dropout : float, dict of str to float or "curriculum", default=0.0
        Probability with which a present modality is left out of a sample in training; one is always kept. A dict has a
        rate a modality, 0 for those it does not name; "curriculum" rises from 0 to .5 over the first half of the
        epochs.
    fill_missing : {"token", "prior"} or None, default=None
        What stands in for a missing modality before the fusion: a learned token that depends on what is present, or a
        mixture of centres of its embeddings, weighted by what is present (as in SMIL). None leaves it out.
    unimodal_heads : bool, default=False
        Every modality has a prediction of its own, `predict(X, head="labs")`, and the loss is the mean of all of them
        and the fused one. "zorro", "bottleneck", "irene", "unseen" and "evidential" have these in any case; in
        "bottleneck" and "irene" a modality's prediction has seen the others.
    balance : {"none", "gradient_blending", "ogm"}, default="none"
        What keeps a modality that learns fast from starving the others; both need `unimodal_heads` and turn them on.
        "gradient_blending" holds a part out and weights the losses by how much a head generalises over how much it
        overfits [2]_; "ogm" slows the encoder of the modality that is ahead [3]_.
    drop_token : float, default=0.0
        Share of a modality's tokens that is left out in training, where it has several.
    n_hidden : int, default=128
        Width of the encoders' hidden layers.
    n_latent : int, default=64
        Width of the embeddings.
    n_layers : int, default=1
        Hidden layers of an encoder.
    n_heads : int, default=4
        Attention heads, where the fusion has attention; a divisor of `n_latent`.
    n_fusion_layers : int, default=2
        Layers of the fusion, where it is a transformer.
    dropout_rate : float or "auto", default="auto"
        Share of hidden units dropped in training. "auto" is .5, or .1 beside `modality_dropout`.
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
        A torch loss of (predictions, targets); None is cross-entropy, or the loss that "evidential" has.
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
    precision : {"float32", "bf16"}, default="float32"
        What the network computes in; "bf16" is meant for GPUs that have it, and slow on most CPUs.
    compile : bool, default=False
        Train through `torch.compile`: from seconds to minutes at the start, for less a step.
    warm_start : bool, default=False
        A further `fit` goes on from the weights of the last one.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, order of the batches, and transformers that bring no seed of their own.
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
    .. [2] Wang, Tran and Feiszli, "What makes training multi-modal classification networks hard?", CVPR, 2020.
    .. [3] Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation", CVPR, 2022.

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
        **JointFusionBase._parameter_constraints,
        "dropout_rate": [real(0, 1), options("auto")],
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
        freeze: Any = False,
        layer_decay: float = 1.0,
        modality_dropout: Any = 0.0,
        fill_missing: Any = None,
        unimodal_heads: bool = False,
        balance: str = "none",
        drop_token: float = 0.0,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
        dropout_rate: float | str = "auto",
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
        precision: str = "float32",
        compile: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoders = encoders
        self.fusion = fusion
        self.modalities = modalities
        self.objectives = objectives
        self.pretrained = pretrained
        self.freeze = freeze
        self.layer_decay = layer_decay
        self.modality_dropout = modality_dropout
        self.fill_missing = fill_missing
        self.unimodal_heads = unimodal_heads
        self.balance = balance
        self.drop_token = drop_token
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.n_fusion_layers = n_fusion_layers
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
        self.precision = precision
        self.compile = compile
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def predict_proba(self, X: Any, head: str | None = None) -> Any:
        """Return class probabilities.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        head : str, default=None
            The head that predicts, a modality's name or ``"global"`` where the network has such predictions (see
            `unimodal_heads`); None is the fused one.

        Returns
        -------
        ndarray of float64 (n_samples, n_classes), or a list of them
            A list, one an output, where the target was 2-D. A sample with nothing present, or without the head's
            modality, gets the prior.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        logits = self._raw_predictions(X, head)
        empty = self._lacks(X, head)
        bounds = np.cumsum([len(prior) for prior in self._priors])[:-1]
        parts = [_softmax(part) for part in np.split(logits, bounds, axis=1)]
        for part, prior in zip(parts, self._priors):
            part[empty] = prior
        return parts if isinstance(self.classes_, list) else parts[0]

    def predict(self, X: Any, head: str | None = None) -> Any:
        """Return the most probable class of each sample, (n_samples,) or (n_samples, n_outputs).

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        head : str, default=None
            As in `predict_proba`.
        """
        probabilities = self.predict_proba(X, head)
        if not isinstance(self.classes_, list):
            return self.classes_[probabilities.argmax(axis=1)]
        return np.stack([c[p.argmax(axis=1)] for c, p in zip(self.classes_, probabilities)], axis=1)

    @partial(OfferedIf, require_uncertainty)
    def uncertainty(self, X: Any, head: str | None = None) -> Any:
        """Return how little is known of each sample, from 0 to 1, where the fusion is "evidential".

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        head : str, default=None
            As in `predict_proba`.

        Returns
        -------
        ndarray of float64 (n_samples,)
            n_classes / S, with S the sum of the Dirichlet's parameters; 1 for a sample with nothing present, or without
            the head's modality.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return np.where(self._lacks(X, head), 1.0, self._uncertainty(self._raw_predictions(X, head)))

    @property
    def _hidden_dropout(self) -> float:
        rates = self.modality_dropout
        drops = any(rates.values()) if isinstance(rates, dict) else bool(rates)
        return float((0.1 if drops else 0.5) if self.dropout_rate == "auto" else self.dropout_rate)

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
        if len(columns) != len(self._class_lists()):
            raise ValueError(f"y has {len(columns)} outputs; due are {len(self._class_lists())}, as before.")
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

    def _build_head(self, width: int) -> Any:
        from torch import nn

        return nn.Linear(width, sum(self._n_classes_by_output()))


class JointFusionRegressor(RegressorMixin, JointFusionBase):
    """Encoders, fusion and regression head trained end to end.

    The target is standardised inside. Everything else is as in `JointFusionClassifier`.

    Parameters
    ----------
    encoders : "auto", str, nn.Module, transformer or dict by modality, default="auto"
        "auto" goes by the modality's kind: "mlp" for tables (wide CSR is projected to 50 components first), "conv1d"
        for sequences, "conv2d" for images, "conv3d" for volumes; see `JointFusionClassifier`.
    fusion : str, class, functools.partial or nn.Module, default="concat"
        A name of `skfusion.fusion.FUSIONS` but "evidential"; see `JointFusionClassifier`.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; see the guide on input.
    objectives : list, default=None
        Auxiliary losses beside the supervised one, by name, such as "ranking", or as instances (see
        `skfusion.objectives`).
    pretrained : estimator, default=None
        Another joint estimator or `MultimodalPretrainer` to start from; see `JointFusionClassifier`. It is cloned and
        fitted on the training data; ``FrozenEstimator(p)`` keeps its fit.
    freeze : bool, "encoders" or list of str, default=False
        Which parts that `pretrained` brings keep its weights; see `JointFusionClassifier`.
    layer_decay : float, default=1.0
        Learning rates fall by this factor with each layer below the heads; see `JointFusionClassifier`.
    modality_dropout : float, dict of str to float or "curriculum", default=0.0
        Probability with which a present modality is left out of a sample in training; one is always kept. A dict has a
        rate a modality, 0 for those it does not name; "curriculum" rises from 0 to .5 over the first half of the
        epochs.
    fill_missing : {"token", "prior"} or None, default=None
        What stands in for a missing modality before the fusion: a learned token that depends on what is present, or a
        mixture of centres of its embeddings, weighted by what is present (as in SMIL). None leaves it out.
    unimodal_heads : bool, default=False
        Every modality has a prediction of its own, `predict(X, head="labs")`, and the loss is the mean of all of them
        and the fused one. "zorro", "bottleneck", "irene" and "unseen" have these in any case; in "bottleneck" and
        "irene" a modality's prediction has seen the others.
    balance : {"none", "gradient_blending", "ogm"}, default="none"
        What keeps a modality that learns fast from starving the others; see `JointFusionClassifier`.
    drop_token : float, default=0.0
        Share of a modality's tokens that is left out in training, where it has several.
    n_hidden : int, default=128
        Width of the encoders' hidden layers.
    n_latent : int, default=64
        Width of the embeddings.
    n_layers : int, default=1
        Hidden layers of an encoder.
    n_heads : int, default=4
        Attention heads, where the fusion has attention; a divisor of `n_latent`.
    n_fusion_layers : int, default=2
        Layers of the fusion, where it is a transformer.
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
    precision : {"float32", "bf16"}, default="float32"
        What the network computes in; "bf16" is meant for GPUs that have it, and slow on most CPUs.
    compile : bool, default=False
        Train through `torch.compile`: from seconds to minutes at the start, for less a step.
    warm_start : bool, default=False
        A further `fit` goes on from the weights of the last one.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, order of the batches, and transformers that bring no seed of their own.
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
        freeze: Any = False,
        layer_decay: float = 1.0,
        modality_dropout: Any = 0.0,
        fill_missing: Any = None,
        unimodal_heads: bool = False,
        balance: str = "none",
        drop_token: float = 0.0,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
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
        precision: str = "float32",
        compile: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoders = encoders
        self.fusion = fusion
        self.modalities = modalities
        self.objectives = objectives
        self.pretrained = pretrained
        self.freeze = freeze
        self.layer_decay = layer_decay
        self.modality_dropout = modality_dropout
        self.fill_missing = fill_missing
        self.unimodal_heads = unimodal_heads
        self.balance = balance
        self.drop_token = drop_token
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.n_fusion_layers = n_fusion_layers
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
        self.precision = precision
        self.compile = compile
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any, head: str | None = None) -> Any:
        """Return predictions.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        head : str, default=None
            The head that predicts, a modality's name or ``"global"`` where the network has such predictions (see
            `unimodal_heads`); None is the fused one.

        Returns
        -------
        ndarray of float64 (n_samples,) or (n_samples, n_outputs)
            A sample with nothing present, or without the head's modality, gets the mean.
        """
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        out = self._raw_predictions(X, head) * self._target_scale + self._target_mean
        out[self._lacks(X, head)] = self._target_mean
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

    def _build_head(self, width: int) -> Any:
        from torch import nn

        return nn.Linear(width, len(self._target_mean))


def _softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
