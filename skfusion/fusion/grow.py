"""Growth: a fusion over more modalities that starts from what one over fewer has learnt."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def grown(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], old_widths: Sequence[int], new_widths: Sequence[int]
) -> dict[str, Tensor]:
    """Carry the weights of a module over to a larger one of its kind, whose further modalities come last.

    Tensors of one name are laid over each other, dimension by dimension; see `places`. What has no counterpart keeps
    its fresh weights, and so does a whole tensor with a dimension that no rule fits.

    Parameters
    ----------
    old, new : dict of str to Tensor
        State of the smaller module, and of the larger one as it was built.
    old_widths, new_widths : sequence of int
        Width of each modality's tokens in either.

    Returns
    -------
    dict of str to Tensor
        The state of the larger module.
    """
    state = {name: tensor.clone() for name, tensor in new.items()}
    for name, known in old.items():
        fresh = state.get(name)
        if fresh is None or fresh.ndim != known.ndim:
            continue
        where = [
            places(a, b, old_widths, new_widths, inputs=dimension > 0)
            for dimension, (a, b) in enumerate(zip(known.shape, fresh.shape))
        ]
        found = tuple(index.to(fresh.device) for index in where if index is not None)
        if not where:
            fresh.copy_(known)
        elif len(found) == len(where):
            fresh[torch.meshgrid(*found, indexing="ij")] = known.to(fresh)
    return state


def places(
    n_old: int, n_new: int, old_widths: Sequence[int], new_widths: Sequence[int], *, inputs: bool
) -> Tensor | None:
    """Return where the `n_old` places of a dimension are among the `n_new` of the larger module; None if unknown.

    A dimension may be as long as before, or a multiple of the number of modalities. The first one may have a place a
    modality and some others at its end; `inputs`, any but the first, may be all modalities' tokens side by side, which
    a place a modality may follow.
    """
    n, m = len(old_widths), len(new_widths)
    units, more_units = sum(old_widths), sum(new_widths)
    if n_old == n_new:
        return torch.arange(n_old)
    if inputs and (n_old, n_new) == (units, more_units):
        return torch.arange(units)
    if inputs and (n_old, n_new) == (units + n, more_units + m):
        return torch.cat([torch.arange(units), more_units + torch.arange(n)])
    if not inputs and n_new - n_old == m - n and n_old >= n:
        return torch.cat([torch.arange(n), torch.arange(m, n_new)])
    if n_old % n == 0 and n_new == n_old // n * m:
        return torch.arange(n_old)
    return None


def grow(old: nn.Module, new: nn.Module, old_widths: Sequence[int], new_widths: Sequence[int]) -> None:
    """Give `new` the weights of `old` that it can use; see `grown`."""
    new.load_state_dict(grown(old.state_dict(), new.state_dict(), old_widths, new_widths))
