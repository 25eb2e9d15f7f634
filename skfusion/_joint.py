"""What the joint classifier and the joint regressor share: from checked input to a trained network, and back."""

import copy
import reprlib
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from skfusion._base import fits
from skfusion._build import build_objectives, fusion_class, prepared
from skfusion._compat import options, real
from skfusion._network import NetworkEstimator, batch_size
from skfusion._targets import training_set
from skfusion.modalities import Modalities, check_modalities

_MIN_SAMPLES_TO_HOLD_OUT = 50


class Lesson(NamedTuple):
    """What a network learns beside its labels.

    Attributes
    ----------
    name, objective : str, nn.Module
        The objective, which knows the samples by their position.
    labelled : ndarray of bool (n_samples,)
        Whose label counts; what the others have in `y` stands there for form's sake.
    share : float
        What the supervised loss is multiplied by.
    classes : ndarray, optional
        All classes there are.
    """

    name: str
    objective: Any
    labelled: Any
    share: float = 1.0
    classes: Any = None


class JointFusionBase(NetworkEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        **NetworkEstimator._parameter_constraints,
        "unimodal_heads": ["boolean"],
        "balance": [options("none", "gradient_blending", "ogm")],
        "objectives": [list, tuple, None],
        "freeze": ["boolean", list, tuple, options("encoders")],
        "layer_decay": [real(0, 1, closed="right")],
    }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
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
        self._start(data)
        return self._train(data, target, self.max_epochs, self.scheduler, self.early_stopping)

    @fits
    def _fit_taught(self, X: Any, y: Any, sample_weight: Any, groups: Any, lesson: Lesson) -> Any:
        """Fit with an objective more; every sample has a modality and a positive weight."""
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, groups, numeric=not self._is_classifier)
        known = lesson.labelled if lesson.labelled.any() else slice(None)
        weight = None if data.sample_weight is None else data.sample_weight[known]
        self._learn_target(data.y[known], weight, lesson.classes)
        self._start(data, {lesson.name: lesson.objective})
        self.net_.weights = {"supervised": lesson.share}
        options = {"scheduler": self.scheduler, "early_stopping": self.early_stopping}
        self._train(data, self._encode_target(data.y), self.max_epochs, labelled=lesson.labelled, **options)
        # What it learns of labels later on is no part of the lesson.
        self.net_.weights = {}
        return self

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
        self._start(data)
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
        self.net_.regroup(self._parts_to_freeze(network), self.layer_decay)
        if supervised.balance != self.balance:
            supervised.balance, supervised.blend = self.balance, {}
        if self.batch_size != "auto":
            self.net_.batch_size = self.batch_size
        self.net_.set_lr(self.lr)
        options = {"scheduler": self.scheduler, "early_stopping": self.early_stopping, **options}
        return self._train(data, self._encode_target(data.y), epochs, **options)

    def _start(self, data: Any, more: Any = None) -> None:
        """Fit the preprocessing and build the network; `more` are further objectives by name."""
        from skfusion.objectives.supervised import Supervised
        from skfusion.training.device import resolve_device, seeded

        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        device = resolve_device(self.device)
        with seeded(seed, device):
            network = self._build_network(data, seed)
            label_smoothing = getattr(self, "label_smoothing", 0.0)
            criterion = _without_reduction(self.criterion)
            if criterion is None and hasattr(network.fusion, "criterion"):
                criterion = network.fusion.criterion(label_smoothing)
            if self.balance == "gradient_blending" and hasattr(criterion, "begin_epoch"):
                raise ValueError(
                    f"balance is 'gradient_blending', which compares losses over time, but that of fusion="
                    f"{self.fusion!r} grows stricter as the training goes on; use balance='ogm' or 'none'."
                )
            supervised = Supervised(
                criterion,
                n_classes=network.n_classes,
                label_smoothing=label_smoothing,
                balance=self.balance,
            )
            # What was given stands in for the fusion's own of its class.
            given = build_objectives(self.objectives)
            own = build_objectives(getattr(network.fusion, "objectives", ()))
            kinds = {type(objective) for objective in given.values()}
            own = {name: objective for name, objective in own.items() if type(objective) not in kinds}
            prepared(objectives := {**own, **given, **(more or {})}, lambda: self._setting(network))
            self.net_ = self._build_net(
                network,
                {"supervised": supervised, **objectives},
                batch_size=batch_size(self.batch_size, len(data.X), n_batches=30, smallest=32),
                device=device,
                seed=seed,
            )

    def _build_network(self, data: Any, seed: int) -> Any:
        """Build encoders, fusion and heads; `pretrained` brings those that it knows."""
        from skfusion.fusion.network import head_widths

        source = self._fit_pretrained(data.X, data.y, seed)
        encoders, trunk = self._build_encoders(data.X, data.y, seed, source)
        fusion = self._build_fusion(encoders, source)
        heads = {}
        if self.unimodal_heads or self.balance != "none" or getattr(fusion, "predicts_by_head", False):
            found = head_widths(fusion, {name: encoder.n_out for name, encoder in encoders.items()})
            lacking = [name for name in encoders if name not in found]
            if lacking:
                raise ValueError(
                    f"unimodal_heads and balance need an embedding of each modality, but the heads of "
                    f"{type(fusion).__name__} lack {lacking}; due is FusionOutput(heads={{name: embedding}})."
                )
            own = [*encoders, *(["global"] if getattr(fusion, "global_apart", False) else [])]
            heads = {name: self._build_head(found[name]) for name in own}
        network = self._assemble(
            encoders,
            trunk,
            fusion,
            head=None if hasattr(fusion, "decide") else self._build_head(self.n_latent),
            heads=heads,
            n_classes=self._n_classes_by_output(),
        )
        network.freeze(self._parts_to_freeze(network))
        return network

    def _train(
        self, data: Any, target: Any, epochs: int, scheduler: Any, early_stopping: bool, labelled: Any = None
    ) -> "JointFusionBase":
        net = self.net_
        train = self._tensors(data.X, target, self._weights(data, labelled))
        held_out = None
        if early_stopping or self.balance == "gradient_blending":
            held_out = self._hold_out(data, net.seed)
        self._run_net(train, held_out, epochs, scheduler, early_stopping)
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

    def _weights(self, data: Any, labelled: Any = None) -> Any:
        """Return weights of the samples in the supervised loss, 1 on average; 0 for those without a label."""
        weight = data.sample_weight
        class_weight = getattr(self, "class_weight", None)
        if class_weight is not None:
            by_class = np.ones(len(data.y))
            rows = slice(None) if labelled is None else labelled
            by_class[rows] = compute_sample_weight(class_weight, data.y[rows])
            weight = by_class if weight is None else weight * by_class
        if labelled is not None and not labelled.all():
            weight = labelled * (1.0 if weight is None else weight)
        return None if weight is None else weight / (weight.mean() or 1.0)

    def _raw_predictions(self, X: Modalities, head: str | None = None) -> Any:
        network = self.network_
        if head is None or head == "fusion":
            predict = network.final
        elif head in network.head_names:
            predict = partial(network.predict, head=head)
        else:
            raise ValueError(
                f"head is {head!r}; due is one of {['fusion', *network.head_names]}. unimodal_heads=True gives every "
                "modality a prediction of its own, as 'zorro', 'bottleneck', 'irene', 'unseen' and 'evidential' do."
            )
        return np.concatenate([predict(o).cpu().double().numpy() for o in self.net_.outputs(self._tensors(X))])

    def _uncertainty(self, raw: Any) -> Any:
        """Return what the fusion says of raw predictions (n_samples, n_classes)."""
        from torch import from_numpy

        return self.network_.fusion.uncertainty(from_numpy(raw)).numpy()

    def _lacks(self, X: Modalities, head: str | None) -> Any:
        """Which samples have nothing that a head could predict from."""
        if head in X.names:
            return ~X.present[:, X.names.index(head)]
        return ~X.present.any(axis=1)


def require_uncertainty(estimator: Any) -> None:
    """Raise where the fusion of an estimator, fitted or not, does not say how little it knows."""
    fusion = estimator.network_.fusion if hasattr(estimator, "net_") else fusion_class(estimator.fusion)
    if not hasattr(fusion, "uncertainty"):
        raise AttributeError(
            f"fusion is {reprlib.repr(estimator.fusion)}, which tells no uncertainty; 'evidential' does."
        )


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
