"""Distillation: a student that sees fewer modalities learns from a teacher that sees them all."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._compat import HasMethods, as_asked, integer, options, real
from skfusion._folds import training_folds
from skfusion._joint import JointFusionBase, Lesson
from skfusion._targets import TrainingSet, class_prior, fit_with, training_set
from skfusion.modalities import Modalities, check_modalities
from skfusion.select import _inner, _own_parts

_HANDED_DOWN = {"device": "auto", "random_state": None}


class FusionDistiller(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, FusionEstimator):
    r"""A classifier for few modalities that has learnt from one that saw all of them.

    Modalities that are there in training alone, since they are dear or come late, still help: the student learns from
    the labels and from what the teacher says of each sample, also of those without a label. With ``"response"`` its
    loss is :math:`(1 - \alpha) \mathrm{CE} + \alpha T^2 \mathrm{KL}(p^T_\text{teacher} \| p^T_\text{student})` [1]_,
    where :math:`p^T` are probabilities softened by the temperature T; with ``"intermediate"`` it is CE plus the squared
    error between a linear map of the student's embedding and the teacher's, both standardised [2]_; ``"both"`` adds
    all three.

    Parameters
    ----------
    teacher : classifier with predict_proba, default=None
        Any that takes `X`, such as a joint or late fusion, or a Pipeline of `EarlyFusionTransformer` and any
        classifier. None is `JointFusionClassifier()`. It is cloned and fitted on the samples with a label;
        ``FrozenEstimator(teacher)`` keeps its fit, and may know more classes. For "intermediate" it has ``transform``,
        or is a Pipeline, whose embedding is what its last step gets; probabilities it then needs none.
    student : JointFusionClassifier, default=None
        Its `modalities` are what it sees. None is `JointFusionClassifier()`.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    student_modalities : list of str, default=None
        What the student sees, in place of its own `modalities`; None leaves these as they are.
    method : {"response", "intermediate", "both"}, default="response"
        What the student learns from the teacher.
    temperature : float, default=2.0
        T. Above 1, what the teacher thinks of the classes that it does not choose counts for more.
    alpha : float, default=0.5
        Weight of the teacher's probabilities; the labels have the rest.
    beta : float, default=1.0
        Weight of the teacher's embeddings.
    unlabeled : object, default=None
        The value in `y` of samples without a label, say -1, and not NaN. None means that all have one.
    cv : int, cross-validation splitter or None, default=None
        Samples with a label are answered for by teachers that have not learnt from them, in so many folds; None lets
        the one teacher answer for all. Embeddings are those of the one teacher in any case.
    device : str or torch.device, default="auto"
        Handed to a teacher and a student whose own is "auto".
    random_state : int, RandomState or None, default=None
        Handed to a teacher and a student whose own is None.

    Attributes
    ----------
    teacher_ : classifier or None
        The fitted teacher; None where there was one class.
    student_ : JointFusionClassifier
        The fitted student, which can be used, and saved, without the teacher.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531, 2015.
    .. [2] Romero et al., "FitNets: hints for thin deep nets", ICLR, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionClassifier, FusionDistiller
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = {"labs": rng.normal(size=(200, 4)) + y[:, None], "scan": rng.normal(size=(200, 6)) + 2 * y[:, None]}
    >>> few = np.where(np.arange(200) < 40, y, -1)  # the others have no label
    >>> model = FusionDistiller(FusionClassifier("early"), student_modalities=["labs"], unlabeled=-1, random_state=0)
    >>> model.fit(X, few).predict({"labs": X["labs"][:3]}).shape  # without the scan
    (3,)
    """

    _is_classifier = True
    _parameter_constraints = {
        "teacher": [HasMethods("fit"), None],
        "student_modalities": [list, tuple, None],
        "method": [options("response", "intermediate", "both")],
        "temperature": [real(0, closed="neither")],
        "alpha": [real(0, 1, closed="both")],
        "beta": [real(0)],
        "cv": [integer(2), HasMethods("split"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        teacher: Any = None,
        student: Any = None,
        *,
        modalities: Any = None,
        student_modalities: Any = None,
        method: str = "response",
        temperature: float = 2.0,
        alpha: float = 0.5,
        beta: float = 1.0,
        unlabeled: Any = None,
        cv: Any = None,
        device: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.modalities = modalities
        self.student_modalities = student_modalities
        self.method = method
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta
        self.unlabeled = unlabeled
        self.cv = cv
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32
        return tags

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "FusionDistiller":
        """Fit the teacher on all modalities, and the student on its own and the teacher's answers.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples. Those without any of the student's modalities teach the teacher alone.
        y : array-like of shape (n_samples,)
            The classes; `unlabeled` where there is none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, for the student, and the teacher if it knows weights; those of weight 0 are left
            out.
        groups : array-like of shape (n_samples,), default=None
            Donors, patients and the like: kept whole by `cv`, and handed to the parts, if they know groups.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), the teacher lacks a class, a modality of the student
            or what `method` needs, or no sample has a label.
        """
        if self.unlabeled is not None and pd.isna(self.unlabeled):
            raise ValueError(
                f"unlabeled is {self.unlabeled!r}, which y may not hold; mark samples without a label by another "
                "value, such as -1 or 'unknown'."
            )
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, groups, numeric=False, multi_output=False)
        labelled = self._find_labelled(data.y)
        self.classes_, codes = np.unique(data.y[labelled], return_inverse=True)
        known = None if data.sample_weight is None else data.sample_weight[labelled]
        self._prior = class_prior(codes, len(self.classes_), known)
        teacher, student = self._parts(data.X.names)
        self.teacher_: Any = None
        predictions = embeddings = None
        if len(self.classes_) > 1:
            self._require_able(teacher)
            self.teacher_ = _fitted(teacher, _taken(data, labelled))
            self._require_seen(data.X.names if student.modalities is None else list(student.modalities))
            if self.method != "intermediate":
                predictions = self._responses(teacher, data, labelled, codes, (X, y, groups))
            if self.method != "response":
                embeddings = _embedded(self.teacher_, _inner(data.X))
        self._teach(student, data, labelled, predictions, embeddings)
        return self

    def _find_labelled(self, y: Any) -> Any:
        """Which samples have a label, (n_samples,) bool."""
        if self.unlabeled is None:
            return np.ones(len(y), dtype=bool)
        labelled = ~np.asarray(pd.Series(y, dtype=object) == self.unlabeled, dtype=bool)
        if not labelled.any():
            raise ValueError(f"y is {self.unlabeled!r}, that is unlabeled, for every sample; due are some labels.")
        return labelled

    def _parts(self, names: list[str]) -> tuple[Any, Any]:
        """Return the teacher and the student, unfitted copies."""
        from skfusion.joint import JointFusionClassifier

        given = JointFusionClassifier() if self.student is None else self.student
        if not isinstance(given, JointFusionBase) or not given._is_classifier:
            raise TypeError(f"student is {given!r}; due is a JointFusionClassifier.")
        teacher = clone(JointFusionClassifier() if self.teacher is None else self.teacher)
        student = clone(given)
        if self.student_modalities is not None:
            student.set_params(modalities=list(self.student_modalities))
        seen = names if student.modalities is None else list(student.modalities)
        unknown = [name for name in seen if name not in names]
        if unknown or not seen:
            raise ValueError(f"the student shall see the modalities {seen}; due are some of {names}.")
        for part in [*_own_parts(teacher), student]:
            for name, default in _HANDED_DOWN.items():
                value = getattr(self, name)
                if name in part.get_params(deep=False) and getattr(part, name) == default and value is not default:
                    part.set_params(**{name: value})
        return teacher, student

    def _require_able(self, teacher: Any) -> None:
        """Raise where the teacher cannot give what the method needs."""
        lacking = []
        if self.method != "intermediate" and not hasattr(teacher, "predict_proba"):
            lacking.append("predict_proba")
        if self.method != "response" and not (hasattr(teacher, "transform") or _is_pipeline(teacher)):
            lacking.append("transform")
        if lacking:
            raise ValueError(
                f"method is {self.method!r}, but the teacher {teacher!r} has no {lacking[0]}; due is one that has, "
                "or another method."
            )

    def _require_seen(self, names: list[str]) -> None:
        """Raise where the student asks for modalities that the teacher does not know, as far as it tells."""
        seen = list(getattr(self.teacher_, "modality_names_in_", names))
        unseen = [name for name in names if name not in seen]
        if unseen:
            raise ValueError(
                f"the student asks for the modalities {unseen}, which the teacher never saw; it knows {seen}. Set "
                "student_modalities to some of these, or let the teacher see more."
            )

    def _responses(self, teacher: Any, data: TrainingSet, labelled: Any, codes: Any, given: Any) -> Any:
        """Return the teacher's probabilities of `classes_` for each sample, (n_samples, n_classes)."""
        inner = _inner(data.X)
        lacking = np.setdiff1d(self.classes_, self.teacher_.classes_)
        if len(lacking):
            raise ValueError(
                f"y holds the classes {lacking[:5].tolist()}, which the teacher does not know; it was fitted on "
                f"{list(self.teacher_.classes_)}."
            )
        found = _aligned(self.teacher_, inner, self.classes_)
        if self.cv is None or isinstance(teacher, FrozenEstimator):
            return found
        some, rows = _taken(data, labelled), np.flatnonzero(labelled)
        X, y, groups = given
        for train, test in training_folds(self.cv, some, codes, len(X), y, groups, classify=True):
            fold = _fitted(teacher, _taken(some, train))
            found[rows[test]] = _aligned(fold, _inner(some.X, test), self.classes_)
        return found

    def _teach(self, student: Any, data: TrainingSet, labelled: Any, predictions: Any, embeddings: Any) -> None:
        """Fit the student on the samples that have one of its modalities."""
        from skfusion.objectives.distillation import Distillation

        names = data.X.names if student.modalities is None else list(student.modalities)
        rows = np.flatnonzero(data.X.select(names).present.any(axis=1))
        if not len(rows):
            raise ValueError(f"no sample of X has any of the student's modalities {names}.")
        y = data.y.copy()
        y[~labelled] = self.classes_[0]
        if predictions is not None:
            y[~labelled] = self.classes_[np.nan_to_num(predictions[~labelled]).argmax(axis=1)]
        some = _taken(data._replace(y=y), rows)
        if predictions is None and embeddings is None:
            rows_with_label = np.flatnonzero(labelled[rows])
            some = _taken(some, rows_with_label)
            self.student_ = student.fit(some.X.select(names), some.y, some.sample_weight, some.groups)
            return
        weight = None if some.sample_weight is None else some.sample_weight / some.sample_weight.mean()
        objective = Distillation(
            None if predictions is None else predictions[rows],
            embeddings=None if embeddings is None else embeddings[rows],
            sample_weight=weight,
            temperature=self.temperature,
            alpha=self.alpha,
            beta=self.beta,
        )
        share = 1.0 if predictions is None else 1.0 - self.alpha
        lesson = Lesson("distillation", objective, labelled[rows], share, self.classes_)
        self.student_ = student._fit_taught(some.X.select(names), some.y, some.sample_weight, some.groups, lesson)

    def _seen(self, X: Any) -> Modalities:
        """Return what the student sees of the samples."""
        check_is_fitted(self)
        return check_modalities(self, X, reset=False).select(list(self.student_.modality_names_in_))

    def predict_proba(self, X: Any) -> Any:
        """Return the student's probabilities.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples; the student's modalities are enough.

        Returns
        -------
        ndarray of float64 (n_samples, n_classes)
            A sample without any of the student's modalities gets the prior.
        """
        seen = self._seen(X)
        out = self.student_.predict_proba(seen)
        out[~seen.present.any(axis=1)] = self._prior
        return out

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each sample, (n_samples,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def transform(self, X: Any) -> Any:
        """Return the student's fused embedding, float32 (n_samples, n_latent).

        A sample without any of the student's modalities gets the mean of the training samples.
        """
        seen = self._seen(X)
        return as_asked(self, self.student_.embed(seen, "fusion"), seen.sample_ids)

    def embed(self, X: Any, head: str = "fusion") -> Any:
        """Return the student's embedding of one head, as `JointFusionClassifier.embed` does."""
        seen = self._seen(X)
        return self.student_.embed(seen, head)

    @property
    def embedding_means_(self) -> dict[str, Any]:
        """The mean embedding of each head of the student."""
        return self.student_.embedding_means_

    @property
    def history_(self) -> Any:
        """Skorch's history of the student; ``train_loss_of_response`` is T² KL, ``_of_embedding`` the squared error."""
        return self.student_.history_

    @property
    def _n_features_out(self) -> int:
        return int(self.student_.n_latent_)


def _taken(data: TrainingSet, rows: Any) -> TrainingSet:
    """Return some of the samples, by position or as bool."""
    rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else rows
    X = data.X if len(rows) == len(data.X) else data.X[rows]
    y, weight, groups, kept = (
        None if v is None else v[rows] for v in (data.y, data.sample_weight, data.groups, data.kept)
    )
    return TrainingSet(X, y, weight, groups, kept)


def _fitted(teacher: Any, data: TrainingSet) -> Any:
    """Clone a teacher and fit it; one that is frozen stays as it is."""
    if isinstance(teacher, FrozenEstimator):
        check_is_fitted(teacher)
        return teacher
    return fit_with(clone(teacher), _inner(data.X), data.y, sample_weight=data.sample_weight, groups=data.groups)


def _aligned(teacher: Any, X: Any, classes: Any) -> Any:
    """Return a teacher's probabilities of `classes`, in this order; 0 for one that it has not seen."""
    found = np.asarray(teacher.predict_proba(X), dtype=np.float64)
    column = {label: k for k, label in enumerate(np.asarray(teacher.classes_).tolist())}
    out = np.zeros((len(found), len(classes)))
    for k, label in enumerate(classes.tolist()):
        if label in column:
            out[:, k] = found[:, column[label]]
    total = out.sum(axis=1, keepdims=True)
    # A sample that is none of these classes for sure has no answer.
    return np.divide(out, total, out=np.full_like(out, np.nan), where=total > 0)


def _is_pipeline(teacher: Any) -> bool:
    return isinstance(teacher.estimator if isinstance(teacher, FrozenEstimator) else teacher, Pipeline)


def _embedded(teacher: Any, X: Any) -> Any:
    """Return a teacher's embeddings (n_samples, n_columns); of a Pipeline that ends in a classifier what that gets."""
    whole = teacher if hasattr(teacher, "transform") else teacher[:-1]
    found = whole.transform(X)
    return np.asarray(found.toarray() if sparse.issparse(found) else found, dtype=np.float32)
