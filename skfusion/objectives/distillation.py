"""A student learns what a teacher answers, who may have seen more."""

from typing import Any

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_above_0, require_at_least_0
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.objective import Objective

_LEAST = 1e-7
"""Probability below which a teacher is no surer; the logarithm of 0 is none."""


class Distillation(Objective):
    r"""Learn what a teacher has answered [1]_, and how it embeds [2]_.

    With logits :math:`z` and :math:`p^T = \mathrm{softmax}(z / T)`, that is
    :math:`\alpha T^2 \mathrm{KL}(p^T_\text{teacher} \| p^T_\text{student})`, the mean over samples, beside the
    supervised loss, which `FusionDistiller` multiplies by :math:`1 - \alpha`. For numbers it is :math:`\alpha` times
    the squared error to the teacher's predictions. To that comes `beta` times the squared error between a linear map of
    the student's fused embedding and the teacher's, both standardised, the mean over columns.

    The answers are computed before, for every sample of the training data, and looked up by position: no teacher runs
    in training. `FusionDistiller` does all that.

    Parameters
    ----------
    predictions : array of shape (n_samples, n_outputs), default=None
        The teacher's probabilities (those of several outputs side by side), or predicted numbers in the unit that the
        network learns in. A row that is not finite is no answer. None distils no predictions.
    embeddings : array of shape (n_samples, n_columns), default=None
        The teacher's embeddings, likewise.
    sample_weight : array of shape (n_samples,), default=None
        Weights of the samples, 1 on average.
    temperature : float, default=2.0
        T; above 1 it lifts what the teacher thinks of the classes that it does not choose.
    alpha : float, default=0.5
        Weight of the predictions.
    beta : float, default=1.0
        Weight of the embeddings.

    References
    ----------
    .. [1] Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531, 2015.
    .. [2] Romero et al., "FitNets: hints for thin deep nets", ICLR, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import JointFusionClassifier
    >>> from skfusion.objectives import Distillation
    >>> rng = np.random.default_rng(0)
    >>> X, y = {"a": rng.normal(size=(40, 3))}, np.arange(40) % 2
    >>> answers = np.stack([0.9 - 0.8 * y, 0.1 + 0.8 * y], axis=1)
    >>> model = JointFusionClassifier(objectives=[Distillation(answers)], max_epochs=1, random_state=0).fit(X, y)
    >>> sorted(name for name in model.history_[0] if name.startswith("train_loss_of"))
    ['train_loss_of_distillation', 'train_loss_of_response']
    """

    when = "any"
    needs_target = True
    validates = True

    predictions: Tensor | None
    embeddings: Tensor | None
    weight: Tensor | None

    def __init__(
        self,
        predictions: Any = None,
        *,
        embeddings: Any = None,
        sample_weight: Any = None,
        temperature: float = 2.0,
        alpha: float = 0.5,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        require_above_0("Distillation", temperature=temperature)
        require_at_least_0("Distillation", beta=beta)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha of Distillation is {alpha!r}; due is a number from 0 to 1.")
        if predictions is None and embeddings is None:
            raise ValueError(
                "Distillation has nothing to learn from; due are predictions or embeddings of a teacher, as "
                "FusionDistiller computes them."
            )
        self.temperature, self.alpha, self.beta = temperature, alpha, beta
        for name, table in (("predictions", predictions), ("embeddings", embeddings), ("weight", sample_weight)):
            tensor = None if table is None else torch.as_tensor(table).detach().to("cpu", torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        if self.embeddings is not None:
            self.embeddings = standardised(self.embeddings, self.embeddings.isfinite().all(1))
        self.map: nn.Linear | None = None

    def prepare(self, setting: Setting) -> None:
        """Build the map from the student's embedding to the teacher's."""
        if self.embeddings is not None and self.map is None:
            self.map = nn.Linear(setting.widths["fusion"], self.embeddings.shape[1])

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Tensor | Part]:
        """Return the loss of the predictions and of the embeddings, over the samples that the teacher answered for."""
        output = outputs["clean"]
        n_known = {len(table) for table in (self.predictions, self.embeddings, self.weight) if table is not None}
        if n_known - {context.n_samples}:
            raise ValueError(
                f"Distillation has answers for {sorted(n_known)} samples, but {context.n_samples} are learnt from."
            )
        parts: dict[str, Tensor | Part] = {}
        total = output.fused.new_zeros(())
        if self.predictions is not None:
            answers, there = _answers(self.predictions, context.index)  # (B, n_out), (B,)
            response = self._mean(there, self._apart(context.network, output, answers), context.index)
            total, parts["of_response"] = total + self.alpha * response.mean, response
        if self.embeddings is not None and self.map is not None:
            answers, there = _answers(self.embeddings, context.index)  # (B, D), (B,)
            own = self.map(standardised(output.fused, there))
            embedding = self._mean(there, (own - answers).square().mean(1), context.index)
            total, parts["of_embedding"] = total + self.beta * embedding.mean, embedding
        return {"loss": total, **parts}

    def on_train_end(self) -> None:
        """Forget the answers, which are for the samples of this training alone."""
        self.predictions = self.embeddings = self.weight = None

    def _apart(self, network: Any, output: FusionOutput, answers: Tensor) -> Tensor:
        """How far the student's predictions are from the answers, (B,)."""
        said = network.predict(output)
        if network.n_classes is None:
            return (said - answers).square().mean(1)
        logits = answers.clamp(min=_LEAST).log()
        pairs = zip(said.split(network.n_classes, -1), logits.split(network.n_classes, -1))
        return torch.stack([softened_divergence(s, t, self.temperature) for s, t in pairs]).mean(0)

    def _mean(self, there: Tensor, each: Tensor, index: Tensor) -> Part:
        return mean_of(there, each if self.weight is None else each * self.weight[index])


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² KL(teacher || student) of each sample (B,), from logits (B, K) that T divides.

    The factor keeps the gradient as large at any T: it tends to (z_s - z_t) / K, both centred.
    """
    log_student = (student / temperature).log_softmax(-1)
    log_teacher = (teacher / temperature).log_softmax(-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)


def standardised(values: Tensor, there: Tensor) -> Tensor:
    """Bring the columns of `values` (N, D) to mean 0 and variance 1 over the rows that are `there` (N,).

    A column that does not vary is 0; the other rows are whatever came of them.
    """
    rows = there.unsqueeze(1)  # (N, 1)
    n = there.sum().clamp(min=1)
    centred = values - torch.where(rows, values, 0.0).sum(0) / n
    variance = torch.where(rows, centred, 0.0).square().sum(0) / n
    return centred * (variance + 1e-5).rsqrt()


def _answers(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Look answers up, (B, D), zeros where there are none, and which samples (B,) have one."""
    answers = table[index]
    there = answers.isfinite().all(1)
    return torch.where(there.unsqueeze(1), answers, 0.0), there
