"""RNA velocity: the fused embedding must tell the moments of both layers, and by the kinetics of splicing velocity."""

from typing import Any

import torch
from torch import Tensor

from skfusion.decoders.velocity import MinimalVelocityDecoder, VelocityDecoder
from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.objective import Objective


class Velocity(Objective):
    """Minus the evidence lower bound of moments under a decoder of velocity, from the fused embedding.

    It is the mean over genes. Under "mixture" the kinetics are learnt with the network [1]_; under "minimal" it learns
    the moments alone, which it smooths, and the rates stay as they are given, such as those of the steady state [2]_.

    Parameters
    ----------
    moments : array-like (n_known, n_genes, 2)
        Unspliced and spliced moments of training samples, each gene and layer scaled to go from 0 to 1; under "minimal"
        they must be in proportion to what was measured, as divided by their maximum.
    samples : array-like of int (n_known,), default=None
        Which training samples these are, ascending; the others are left out. None is all.
    decoder : {"mixture", "minimal"}, default="mixture"
        `VelocityDecoder`, or `MinimalVelocityDecoder`.
    beta, gamma : array-like (n_genes,), default=None
        Rates of "minimal", above 0, in the units of the scaled moments; None is 1.
    n_hidden : int, default=128
        Width of the decoder's hidden layer.

    References
    ----------
    .. [1] Gayoso et al., "Deep generative modeling of transcriptional dynamics for RNA velocity analysis in single
       cells", Nature Methods 21, 2024.
    .. [2] La Manno et al., "RNA velocity of single cells", Nature 560, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.objectives import Velocity
    >>> rng = np.random.default_rng(0)
    >>> X = {"spliced": rng.random((60, 8)), "unspliced": rng.random((60, 8))}
    >>> velocity = Velocity(np.stack([X["unspliced"], X["spliced"]], axis=-1))
    >>> pretrainer = MultimodalPretrainer([velocity], max_epochs=1, random_state=0).fit(X)
    >>> "train_loss_of_Velocity" in pretrainer.history_[0]
    True
    """

    when = "any"

    def __init__(
        self,
        moments: Any,
        samples: Any = None,
        *,
        decoder: str = "mixture",
        beta: Any = None,
        gamma: Any = None,
        n_hidden: int = 128,
    ) -> None:
        super().__init__()
        require_one_of("Velocity", ("mixture", "minimal"), decoder=decoder)
        require_whole_numbers("Velocity", n_hidden=n_hidden)
        values = torch.as_tensor(moments, dtype=torch.float32)
        if values.ndim != 3 or values.shape[-1] != 2:
            raise ValueError(f"moments of Velocity has the shape {tuple(values.shape)}; due is (n_known, n_genes, 2).")
        self.n_hidden, self.n_genes = n_hidden, values.shape[1]
        self.decoder = decoder
        for name, rate in (("beta", beta), ("gamma", gamma)):
            self.register_buffer(name, _rates(name, rate, self.n_genes, decoder), persistent=False)
        rows = torch.arange(len(values)) if samples is None else torch.as_tensor(samples)
        self.register_buffer("moments", values, persistent=False)
        self.register_buffer("samples", rows, persistent=False)

    moments: Tensor | None
    samples: Tensor

    def prepare(self, setting: Setting) -> None:
        """Build the decoder."""
        options: dict[str, Any] = {"n_hidden": self.n_hidden}
        build: Any = VelocityDecoder
        if self.decoder == "minimal":
            build, options = MinimalVelocityDecoder, {**options, "beta": self.beta, "gamma": self.gamma}
        self.module = build(setting.widths["fusion"], self.n_genes, **options)

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean over samples with moments."""
        if self.moments is None:
            raise ValueError("Velocity has let go of its moments at the end of the last training; give a new one.")
        at = torch.searchsorted(self.samples, context.index).clamp(max=len(self.samples) - 1)  # (B,)
        there = (self.samples[at] == context.index) & batch.present.any(1)
        moments = self.moments[at]  # (B, G, 2)
        each = self.module.negative_evidence(outputs["clean"].fused, moments) / self.n_genes  # (B,)
        return {"loss": mean_of(there, each)}

    def on_train_end(self) -> None:
        """Let go of the training data."""
        self.moments = None


def _rates(name: str, rate: Any, n_genes: int, decoder: str) -> Tensor | None:
    if rate is None:
        return None
    if decoder != "minimal":
        raise ValueError(f"{name} of Velocity is given, and the decoder {decoder!r} learns its own; leave it out.")
    found = torch.as_tensor(rate, dtype=torch.float32)
    if found.shape != (n_genes,):
        raise ValueError(f"{name} of Velocity has the shape {tuple(found.shape)}; due is a rate a gene, ({n_genes},).")
    low = found[~(found > 0)]
    if len(low):
        raise ValueError(
            f"{name} of Velocity holds {float(low[0]):.3g} and the like ({len(low)}); due are rates above 0."
        )
    return found
