"""Reconstruction: an embedding must tell the values that it was made from."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.decode import ValueDecoder, squared_error
from skfusion.objectives.objective import Objective


class Reconstruction(Objective):
    """Squared error of each present modality's values, as decoded from the fused embedding and from its own.

    The values are those that the encoders get: standardised. It is the mean over the modalities of a sample, of which
    each counts the same, however wide it is.

    Parameters
    ----------
    n_hidden : int, default=128
        Width of the decoders' hidden layer.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> X = {"a": np.random.default_rng(0).normal(size=(60, 4))}
    >>> pretrainer = MultimodalPretrainer(["reconstruction"], max_epochs=2, random_state=0).fit(X)
    >>> "train_loss_of_reconstruction" in pretrainer.history_[0]
    True
    """

    when = "any"

    def __init__(self, *, n_hidden: int = 128) -> None:
        super().__init__()
        require_whole_numbers("Reconstruction", n_hidden=n_hidden)
        self.n_hidden = n_hidden

    def prepare(self, setting: Setting) -> None:
        """Build two decoders a modality."""
        names, widths = setting.network.names, setting.widths
        self.of_fused, self.of_own = (
            nn.ModuleList(ValueDecoder(widths[head or name], setting.shapes[name], self.n_hidden) for name in names)
            for head in ("fusion", "")
        )

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean over what is present."""
        output = outputs["clean"]
        errors: list[Tensor] = []
        for name, from_fused, from_own in zip(context.network.names, self.of_fused, self.of_own):
            values = batch.modalities[name]
            errors.append(
                squared_error(from_fused(output.fused), values) + squared_error(from_own(output.heads[name]), values)
            )
        each = torch.where(batch.present, torch.stack(errors, 1), 0.0).sum(1)  # (B,)
        return {"loss": mean_of(batch.present.any(1), each / batch.present.sum(1).clamp(min=1))}
