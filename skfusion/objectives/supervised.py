"""The supervised loss of a joint network."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Context, Part, mean_of


class Supervised(nn.Module):
    """Mean over the samples of a batch of a criterion times their weights, which are 1 on average.

    Where the network has further heads, each predicts as well, and the loss is the mean of all of them, each over the
    samples that have what it needs. In validation it is that of the fused embedding alone.

    Parameters
    ----------
    criterion : nn.Module, default=None
        Takes predictions and targets and gives one value a sample and output (``reduction="none"``). None is
        cross-entropy where `n_classes` is given, else the squared error.
    n_classes : list of int, default=None
        Number of classes of each output; the logits of all outputs lie side by side.
    label_smoothing : float, default=0.0
        Share of the probability that cross-entropy spreads over all classes.
    balance : {"none", "gradient_blending", "ogm"}, default="none"
        How modalities that learn fast are kept from starving the others. "gradient_blending" [1]_ weights the heads'
        losses, anew after each epoch, by how much their validation loss has fallen since the first over the square of
        how much further training and validation loss have drawn apart. "ogm" [2]_ slows the encoder of a modality that
        is ahead by 1 - tanh(α ρ), with ρ the ratio of its mean probability of the truth to that of the others, and adds
        noise as large as the gradient.
    alpha : float, default=0.5
        α of "ogm".

    References
    ----------
    .. [1] Wang, Tran and Feiszli, "What makes training multi-modal classification networks hard?", CVPR, 2020.
    .. [2] Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation", CVPR, 2022.
    """

    when = "any"
    needs_target = True

    def __init__(
        self,
        criterion: nn.Module | None = None,
        *,
        n_classes: list[int] | None = None,
        label_smoothing: float = 0.0,
        balance: str = "none",
        alpha: float = 0.5,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.n_classes = n_classes
        self.label_smoothing = label_smoothing
        self.balance = balance
        self.alpha = alpha
        self.blend: dict[str, float] = {}
        self._scores: dict[str, Tensor] = {}

    def begin_epoch(self, progress: float) -> None:
        """Tell a criterion that changes with time how far the training has come, from 0 to 1."""
        if hasattr(self.criterion, "begin_epoch"):
            self.criterion.begin_epoch(progress)  # type: ignore[union-attr, operator]

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Tensor | Part]:
        """Return ``"loss"``, that of the clean view against ``context.target``, and that of each head."""
        network, output = context.network, outputs["clean"]
        predict = network.predict if self.training else network.final
        fused = self.forward(predict(output), context.target, context.weight)
        if not network.head_names:
            return {"loss": fused}
        parts: dict[str, Part] = {"fusion": Part(fused, fused.new_full((), len(batch)))}
        for head in network.head_names:
            there = network.present_in(head, output.present)  # (B,)
            prediction = network.predict(output, head)  # (B, n_out)
            if self.balance == "ogm" and network.training:
                score = mean_of(there, self.truth(prediction.detach(), context.target)).mean
                self._scores[head] = torch.where(there.any(), score, torch.nan)
            each = self.each(prediction, context.target)  # (B,)
            weighted = each if context.weight is None else each * context.weight
            parts[head] = mean_of(there, weighted)
        share = 1 / len(parts)
        total = torch.stack([self.blend.get(head, share) * part.mean for head, part in parts.items()]).sum()
        return {"loss": total if self.training else fused, **parts}

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Predictions (B, n_out), targets (B,) or (B, n_outputs), weights (B,) to a scalar."""
        each = self.each(prediction, target)  # (B,)
        return each.mean() if weight is None else (each * weight).mean()

    def each(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, (B,)."""
        if self.n_classes is None or len(self.n_classes) == 1:
            losses = [self._each(prediction, target)]
        else:
            parts = prediction.split(self.n_classes, dim=1)
            losses = [self._each(part, target[:, k]) for k, part in enumerate(parts)]
        return torch.stack([loss if loss.ndim == 1 else loss.flatten(1).mean(1) for loss in losses]).mean(0)

    def _each(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.criterion is not None:
            out: Tensor = self.criterion(prediction, target)
            return out
        if self.n_classes is not None:
            return F.cross_entropy(prediction, target, reduction="none", label_smoothing=self.label_smoothing)
        return F.mse_loss(prediction, target, reduction="none")

    def truth(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the probability of each sample's truth (B,), its mean over outputs; for numbers exp(-loss)."""
        if self.n_classes is None:
            return self.each(prediction, target).neg().exp()
        columns = target if target.ndim == 2 else target.unsqueeze(1)  # (B, n_outputs)
        each = [
            part.softmax(-1).gather(1, columns[:, k : k + 1])
            for k, part in enumerate(prediction.split(self.n_classes, dim=1))
        ]
        return torch.cat(each, 1).mean(1)

    @torch.no_grad()
    def on_gradients(self, network: Any) -> None:
        """Slow the encoders of modalities that are ahead, where `balance` is "ogm"."""
        if self.balance != "ogm" or len(network.names) < 2:
            return
        scores = torch.stack([self._scores[name] for name in network.names])  # (M,)
        for factor, parameters in zip(modulation(scores, self.alpha), network.encoder_parameters()):
            for parameter in parameters:
                if parameter.grad is None:
                    continue
                spread = parameter.grad.std(correction=0) + 1e-8
                parameter.grad.mul_(factor).add_(torch.randn_like(parameter.grad) * spread * (factor < 1))

    def on_epoch_end(self, history: Any) -> None:
        """Weigh the heads anew, where `balance` is "gradient_blending" and something is held out."""
        if self.balance != "gradient_blending" or "valid_loss_fusion" not in history[-1]:
            return
        # A large network may fit a small training set within a few epochs, and what it has learnt by heart it does not
        # unlearn: so the weights do not wait for a window of several epochs to pass.
        first = next(row for row in history if "valid_loss_fusion" in row)
        prefix = "valid_loss_"
        heads = [key.removeprefix(prefix) for key in first if key.startswith(prefix) and key != f"{prefix}best"]
        self.blend = blending_weights(
            *(
                {head: (row[f"train_loss_{head}"], row[f"valid_loss_{head}"]) for head in heads}
                for row in (first, history[-1])
            )
        )


def modulation(scores: Tensor, alpha: float) -> Tensor:
    """Factors (M,) of the encoders' gradients, from mean probabilities of the truth (M,); NaN where nobody has it."""
    others = torch.stack([torch.cat([scores[:m], scores[m + 1 :]]).nanmean() for m in range(len(scores))])
    ratio = scores / others.clamp(min=1e-8)
    # A modality without rivals is not ahead of anyone: NaN > 1 is false.
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), 1.0)


def blending_weights(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Weights G / O² of heads, summing to 1, from their training and validation losses before and after.

    G is the fall of the validation loss, O by how much it drew away from the training loss.
    """
    weights = {}
    for head, (train, valid) in after.items():
        train_before, valid_before = before[head]
        gained = max(valid_before - valid, 0.0)
        overfit = (valid - train) - (valid_before - train_before)
        weights[head] = gained / max(overfit**2, 1e-6)
    total = sum(weights.values())
    if not total > 0 or not math.isfinite(total):
        return dict.fromkeys(weights, 1 / len(weights))
    return {head: weight / total for head, weight in weights.items()}
