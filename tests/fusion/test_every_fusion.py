"""What sets fusions apart, what they can learn, and what all of them leave out."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from _tokens import N_HEADS, N_MODALITIES, WIDTH, build, draw, everyone
from _tokens import double as double
from _tokens import single as single
from torch import nn

from skfusion._build import resolve
from skfusion.encoders.batch import Tokens
from skfusion.encoders.dropout import Dropout
from skfusion.fusion import FUSIONS

EVERY = pytest.mark.parametrize("name", FUSIONS)
EMBEDS = pytest.mark.parametrize(
    "name", [name for name in FUSIONS if not hasattr(resolve("fusion", name, FUSIONS), "decide")]
)
"""Fusions that predict from the fused embedding; the others fuse what modalities have decided by themselves."""
FOUR = {2: {"a": 4, "b": 4}, 3: {"a": 4, "b": 4, "c": 4}}


def fusion_class(name):
    return resolve("fusion", name, FUSIONS)


def filled_by_shape(module):
    """Give parameters of one shape one value, whatever they are called."""
    with torch.no_grad():
        for parameter in module.parameters():
            generator = torch.Generator().manual_seed(hash(tuple(parameter.shape)) % 2**31)
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module


@N_MODALITIES
def test_with_shared_weights_every_fusion_differs_from_every_other(n_modalities):
    tokens = draw(FOUR[n_modalities])
    widths = dict.fromkeys(tokens, WIDTH)
    fused = {
        name: filled_by_shape(fusion_class(name)(widths, WIDTH, n_heads=N_HEADS).eval())(tokens, everyone(tokens)).fused
        for name in FUSIONS
    }
    alike = [pair for pair in combinations(fused, 2) if (fused[pair[0]] - fused[pair[1]]).abs().max() < 1e-3]
    assert not alike


@EVERY
@N_MODALITIES
def test_more_padding_changes_nothing(name, n_modalities):
    # How far a batch is padded depends on its longest sample.
    fusion = build(fusion_class(name), n_modalities)
    tokens = draw(FOUR[n_modalities])
    tokens["a"].mask[0, 2:] = False
    present = everyone(tokens)
    present[1, 1] = False
    longer = {name: Tokens(F.pad(t.values, (0, 0, 0, 3)), F.pad(t.mask, (0, 3))) for name, t in tokens.items()}
    torch.testing.assert_close(fusion(longer, present).fused, fusion(tokens, present).fused)


@EVERY
def test_more_padding_changes_nothing_beside_a_single_token(name):
    fusion = build(fusion_class(name), 2)
    tokens = draw({"a": 1, "b": 4})
    values, mask = tokens["b"]
    longer = {**tokens, "b": Tokens(F.pad(values, (0, 0, 0, 3)), F.pad(mask, (0, 3)))}
    present = everyone(tokens)
    present[1, 1] = present[2, 0] = False
    torch.testing.assert_close(fusion(longer, present).fused, fusion(tokens, present).fused)


@EVERY
def test_training_follows_a_prediction_in_inference_mode(name):
    # What is kept between calls must not be a tensor of inference mode, which autograd refuses. The lengths are new to
    # this process, so that nothing is kept yet.
    fusion = build(fusion_class(name), 2)
    length = 20 + list(FUSIONS).index(name)
    tokens = draw({"a": length, "b": length})
    with torch.inference_mode():
        fusion(tokens, everyone(tokens))
    for values, _ in tokens.values():
        values.requires_grad_()  # a fusion may have no parameters
    fusion.train()(tokens, everyone(tokens)).fused.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())


@EMBEDS
def test_blocks_drop_less_than_what_is_fused(name):
    # A block adds to what it gets, and there are several of them.
    fusion = fusion_class(name)({"a": WIDTH, "b": WIDTH}, WIDTH, dropout_rate=0.5, n_heads=N_HEADS)
    rates = {path: part.rate for path, part in fusion.named_modules() if isinstance(part, Dropout)}
    assert rates.pop("refine.layers.0") == 0.5
    assert set(rates.values()) <= {0.2, 0.0}


def exclusive_or(n, generator, spread=0.4):
    """Two bits, each on one direction of the second of four tokens; the label is whether they differ."""
    bits = torch.randint(2, (n, 2), generator=generator)
    directions = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(7)), dim=1)
    tokens = {}
    for m, name in enumerate("ab"):
        values = spread * torch.randn(n, 4, 16, generator=generator)
        values[:, 1] += 4 * (2 * bits[:, [m]] - 1) * directions[m]
        tokens[name] = Tokens(values, torch.ones(n, 4, dtype=torch.bool))
    return tokens, bits[:, 0] ^ bits[:, 1]


@pytest.mark.usefixtures("single")
@EMBEDS
def test_exclusive_or_is_learned(name):
    generator = torch.Generator().manual_seed(0)
    (tokens, y), (new, new_y) = exclusive_or(400, generator), exclusive_or(400, generator)
    torch.manual_seed(0)
    fusion, out = fusion_class(name)(dict.fromkeys("ab", 16), 16), nn.Linear(16, 2)
    optimizer = torch.optim.AdamW([*fusion.parameters(), *out.parameters()], lr=1e-2)
    for _ in range(200):
        output = fusion(tokens, everyone(tokens))
        loss = F.cross_entropy(out(output.fused), y)
        if loss < 0.02:
            break
        optimizer.zero_grad()
        (loss + sum(output.losses.values())).backward()
        optimizer.step()
    fusion.eval()
    assert (out(fusion(new, everyone(new)).fused).argmax(1) == new_y).float().mean() > 0.95
