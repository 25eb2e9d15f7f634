"""From a trained network to distributions over the expression of cells."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from skfusion.modalities import Modalities, check_modalities
from skfusion.objectives import Expression, Generative
from skfusion.singlecell._libraries import has

_AT_ONCE = 1024


def expression_of(pretrainer: Any) -> Any:
    """Return the trained objective that decodes expression."""
    found = _trained(pretrainer, Expression)
    if found is None:
        raise ValueError(
            f"this needs the objective 'expression', and trained were {list(pretrainer.objectives_)}; leave objectives "
            "at 'auto', or add it."
        )
    return found


def n_latent_of(pretrainer: Any) -> int:
    """Return the width of the latent of the trained objective that has a prior."""
    return int(_trained(pretrainer, Generative).n_latent)


def decoded(pretrainer: Any, cells: Modalities, layer: str, library: Any, covariates: Any) -> Iterator[Any]:
    """Yield distributions of a layer over cells, in order, some cells at once.

    Cells that have the layer are decoded from the fused embedding, others from that of the other layer, the only one
    that training has asked to tell of a layer that it has not seen.

    Parameters
    ----------
    pretrainer : MultimodalPretrainer
        Fitted.
    cells : Modalities
        As the pretrainer was fitted on.
    layer : str
        What to decode.
    library : ndarray (n_cells,) or None
        Totals of the layer, where it is counts.
    covariates : ndarray (n_cells, n_covariates) or None
        What else the decoders are told.
    """
    objective, network = expression_of(pretrainer), pretrainer.network_
    device = next(network.parameters()).device
    library, covariates = (
        None if part is None else torch.from_numpy(part).to(device) for part in (library, covariates)
    )
    there = torch.from_numpy(np.array(has(cells, layer))).to(device)
    other = next((name for name in network.names if name != layer), None)
    start = 0
    for output in pretrainer.net_.outputs(pretrainer._tensors(check_modalities(pretrainer, cells, reset=False))):
        rows = slice(start, start + len(output.fused))
        start = rows.stop
        told = {
            key: None if part is None else part[rows] for key, part in (("library", library), ("batch", covariates))
        }
        with torch.inference_mode():
            found = objective.decode(layer, "fusion", output.fused, **told)
            if other is not None and not there[rows].all():
                crossed = objective.decode(layer, other, output.heads[other], **told)
                found = _choose(there[rows], found, crossed)
        yield found


def draw(
    pretrainer: Any, places: Any, layer: str, library: Any, covariates: Any, seed: int, *, by_prior: bool = False
) -> Any:
    """Draw values of a layer (n_cells, n_genes) from fused embeddings, or latents, (n_cells, n_latent)."""
    from skfusion.training.device import seeded

    if by_prior:
        decode = partial(_trained(pretrainer, Generative).decode, layer)
    else:
        decode = partial(expression_of(pretrainer).decode, layer, "fusion")
    device = next(pretrainer.network_.parameters()).device
    parts = []
    with torch.inference_mode(), seeded(seed, device):
        for start in range(0, len(places), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            given = (None if p is None else torch.from_numpy(p[rows]).to(device) for p in (places, library, covariates))
            place, total, batch = given
            drawn = decode(place, library=total, batch=batch).sample()
            parts.append(drawn.cpu().numpy())
    return np.concatenate(parts)


def _trained(pretrainer: Any, kind: Any) -> Any:
    """Return the trained objective of a kind, None where there is none."""
    found = next((o for o in pretrainer.net_.criterion_ if isinstance(o, kind)), None)
    return None if found is None else found.eval()


def _choose(there: Any, first: Any, second: Any) -> Any:
    """Return the distribution that is `first` for cells that are `there` (B,), else `second`."""
    parameters = {
        name: torch.where(there.unsqueeze(1), getattr(first, name), getattr(second, name))
        for name in first.arg_constraints
    }
    return type(first)(**parameters, validate_args=False)
