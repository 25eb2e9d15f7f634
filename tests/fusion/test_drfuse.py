"""DrFuse: the merge of shared parts, attention over distinct ones, and what both are taught to be."""

import math

import pytest
import torch
import torch.nn.functional as F
from _tokens import (
    N_HEADS,
    N_MODALITIES,
    WIDTH,
    assert_close,
    build,
    draw,
    everyone,
    inputs_of,
    noise_for,
    without,
)
from _tokens import double as double
from _tokens import single as single
from torch import nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import recorded_attention
from skfusion.fusion import DrFuse
from skfusion.fusion.drfuse import jensen_shannon, merge
from skfusion.fusion.masks import FUSION, GLOBAL

PATTERNS = {
    2: torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]]).bool(),
    3: torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]).bool(),
}
KINDS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parts_of(fusion, tokens, present, width=WIDTH):
    """Shared and distinct parts (B, M, D)."""
    means = torch.stack([t.values.mean(1) for t in tokens.values()], 1) * present.unsqueeze(-1)
    both = torch.stack([map_(means[:, m]) for m, map_ in enumerate(fusion.parts)], 1)
    return both[..., :width], both[..., width:]


# The merge


def test_the_merge_of_two_is_the_published_number():
    found = merge(torch.tensor([[[0.3], [-1.2]]]), torch.ones(1, 2, dtype=torch.bool)).item()
    assert found == pytest.approx(-0.3931515222051811, abs=1e-12)


def test_the_merge_of_two_is_the_published_formula():
    first, second = logits(5, 4), logits(5, 4, seed=1)
    nothing = torch.zeros_like(first)
    above = torch.stack([first + second, first + second, first, second]).logsumexp(0)
    below = torch.stack([nothing, nothing, first, second]).logsumexp(0)
    assert_close(merge(torch.stack([first, second], 1), torch.ones(5, 2, dtype=torch.bool)), above - below)


@N_MODALITIES
def test_a_merge_is_the_logit_of_the_mean_of_sigmoids_of_what_is_present(n_modalities):
    present = PATTERNS[n_modalities]
    shared = logits(len(present), n_modalities, 4)
    found = merge(shared, present)
    for i, there in enumerate(present):
        expected = shared[i][there].sigmoid().mean(0).logit() if there.any() else torch.zeros(4)
        assert_close(found[i], expected)


@N_MODALITIES
@KINDS
def test_one_part_or_equal_ones_merge_to_themselves(n_modalities, dtype):
    shared = logits(6, 1, 4).to(dtype)
    alone = torch.arange(n_modalities) == torch.arange(6).unsqueeze(1) % n_modalities
    several = torch.where(alone.unsqueeze(-1), shared, logits(6, n_modalities, 4, seed=1).to(dtype))
    assert_close(merge(several, alone), shared[:, 0])
    assert_close(merge(shared.expand(-1, n_modalities, -1), torch.ones_like(alone)), shared[:, 0])


@KINDS
def test_a_merge_of_large_numbers_is_exact_and_has_a_gradient(dtype):
    present = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 1], [1, 0], [0, 1], [0, 0]]).bool()
    pairs = [(100, 100), (-100, -100), (100, -100), (100, 90), (100, -100), (100, -100), (100, -100)]
    shared = torch.tensor(pairs, dtype=dtype).unsqueeze(-1).requires_grad_()
    found = merge(shared, present)
    # (e^-100 + e^-90) / 2 is what the fourth lacks to 1.
    fourth = math.log(2) - math.log(math.exp(-100) + math.exp(-90))
    assert_close(found.flatten(), torch.tensor([100, -100, 0, fourth, 100, -100, 0], dtype=dtype))
    (gradient,) = torch.autograd.grad(found.sum(), shared)
    assert gradient.isfinite().all()
    assert not gradient[~present].any()
    assert_close(gradient[:2].squeeze(-1), torch.full((2, 2), 0.5, dtype=dtype))


@pytest.mark.parametrize("junk", [1e3, float("nan"), float("inf")])
@KINDS
def test_what_is_not_present_does_not_change_a_merge_by_a_bit(junk, dtype):
    present = PATTERNS[3]
    shared = logits(len(present), 3, 4).to(dtype)
    other = torch.where(present.unsqueeze(-1), shared, junk)
    assert torch.equal(merge(other, present), merge(shared, present))


def test_the_gradient_of_a_merge_is_that_of_differences():
    present = PATTERNS[3]
    shared = logits(len(present), 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: merge(h, present), shared)


# The fusion


@N_MODALITIES
def test_the_fusion_is_attention_over_distinct_parts_and_the_merged_one(n_modalities):
    fusion, present = build(DrFuse, n_modalities), PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    with inputs_of(fusion.refine) as seen:
        output = fusion(tokens, present)
    shared, distinct = parts_of(fusion, tokens, present)
    pooling = fusion.pooling
    for i, there in enumerate(present):
        if not there.any():
            assert not seen[0][i].any()
            continue
        merged = shared[i][there].sigmoid().mean(0).logit()
        x = pooling.norm(torch.stack([*distinct[i][there], merged])) + pooling.modality[torch.tensor([*there, True])]
        keys, values = pooling.keys_values(x).chunk(2, -1)
        answers = []
        for query, key, value in zip(*(t.chunk(N_HEADS, -1) for t in (pooling.query, keys, values))):
            weights = (key @ query / (WIDTH / N_HEADS) ** 0.5).softmax(0)
            answers.append(weights @ value)
        assert_close(seen[0][i], torch.cat(answers))
    assert_close(output.fused, fusion.refine(seen[0]))


@N_MODALITIES
def test_weights_are_zero_where_a_modality_is_missing_and_sum_to_one_elsewhere(n_modalities):
    fusion, present = build(DrFuse, n_modalities), PATTERNS[n_modalities]
    with recorded_attention(fusion) as records:
        fusion(draw(n_modalities, n_samples=len(present)), present)
    ((queries, keys), weights) = records[0]
    assert (queries.tolist(), keys.tolist()) == ([GLOBAL], [*range(n_modalities), FUSION])
    real = torch.cat([present, present.any(1, keepdim=True)], 1)
    assert torch.equal(weights.squeeze(1) > 0, real)
    assert_close(weights.sum((1, 2)), present.any(1).double())


@pytest.mark.usefixtures("single")
def test_a_missing_modality_changes_neither_output_nor_losses_by_a_bit():
    fusion, tokens = build(DrFuse, 3), draw(3)
    present = without(tokens, "b")
    expected, found = fusion(tokens, present), fusion(noise_for(tokens, "b"), present)
    assert torch.equal(found.fused, expected.fused)
    assert {name: loss.item() for name, loss in found.losses.items()} == {
        name: loss.item() for name, loss in expected.losses.items()
    }


# Losses


@N_MODALITIES
def test_losses_are_their_formulas(n_modalities):
    fusion = build(DrFuse, n_modalities, agreement=0.5, orthogonality=2.0)
    present = PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    losses = fusion(tokens, present).losses
    shared, distinct = parts_of(fusion, tokens, present)
    apart, aligned = [], []
    for i, there in enumerate(present):
        own = there.nonzero().flatten().tolist()
        coins = [torch.stack([h.sigmoid(), 1 - h.sigmoid()]) for h in shared[i]]
        for m in own:
            for k in (k for k in own if k > m):
                mean = (coins[m] + coins[k]) / 2
                divergences = [(coins[j] * (coins[j] / mean).log()).sum(0) for j in (m, k)]
                apart.append((sum(divergences) / 2).mean())
            cosine = shared[i, m] @ distinct[i, m] / shared[i, m].norm() / distinct[i, m].norm()
            aligned.append(cosine.abs())
    assert_close(losses["agreement"], 0.5 * sum(apart) / len(apart))
    assert_close(losses["orthogonality"], 2.0 * sum(aligned) / len(aligned))


@N_MODALITIES
def test_losses_are_zero_for_equal_shared_and_orthogonal_distinct_parts_alone(n_modalities):
    fusion, present = build(DrFuse, n_modalities), torch.ones(3, n_modalities, dtype=torch.bool)
    shared = logits(3, 1, WIDTH).expand(-1, n_modalities, -1)
    distinct = shared.unflatten(-1, (2, -1)).flip(-2) * torch.tensor([[1.0], [-1.0]])  # (x, y) to (y, -x)
    at_rest = fusion.part_losses(shared, distinct.flatten(-2), present)
    assert at_rest["agreement"].item() == pytest.approx(0, abs=1e-12)
    assert at_rest["orthogonality"].item() == pytest.approx(0, abs=1e-12)
    moved = logits(3, n_modalities, WIDTH, seed=1)
    assert fusion.part_losses(moved, distinct.flatten(-2), present)["agreement"] > 0.01
    opposite = fusion.part_losses(shared, -shared, present)
    assert_close(opposite["orthogonality"], torch.tensor(fusion.orthogonality))


def test_losses_without_a_pair_or_anything_present_are_zero():
    fusion, tokens = build(DrFuse, 2), draw(2)
    alone = fusion(tokens, without(tokens, "a")).losses
    assert alone["agreement"] == 0
    assert alone["orthogonality"] > 0
    assert not any(fusion(tokens, without(tokens, "a", "b")).losses.values())


@KINDS
def test_divergence_is_between_zero_and_log_two_and_finite_for_large_numbers(dtype):
    first = torch.tensor([0.0, 100, 100, -100, 1e4, 2], dtype=dtype).requires_grad_()
    second = torch.tensor([0.0, 100, -100, -100, -1e4, -2], dtype=dtype)
    found = jensen_shannon(first, second)
    apart = math.log(2) - F.binary_cross_entropy(torch.tensor(2.0).sigmoid(), torch.tensor(2.0).sigmoid()).item()
    expected = torch.tensor([0, 0, math.log(2), 0, math.log(2), apart], dtype=dtype)
    assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), first)
    assert gradient.isfinite().all()
    assert_close(jensen_shannon(second, first), found)


# What it learns


def sides(n, generator):
    """A label that both modalities show, each in a direction of its own under noise of its own; who has what."""
    y = torch.randint(2, (n,), generator=generator)
    directions = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(7)), dim=1)
    tokens = {}
    for m, name in enumerate("ab"):
        values = torch.randn(n, 16, generator=generator) + 2 * (2 * y - 1).unsqueeze(1) * directions[m]
        tokens[name] = Tokens(values.unsqueeze(1), torch.ones(n, 1, dtype=torch.bool))
    present = torch.ones(n, 2, dtype=torch.bool)
    present[torch.arange(n // 2), torch.randint(2, (n // 2,), generator=generator)] = False
    return tokens, y, present


def trained(tokens, y, present, **options):
    torch.manual_seed(0)
    fusion, out = DrFuse(dict.fromkeys("ab", 16), 16, **options), nn.Linear(16, 2)
    optimizer = torch.optim.AdamW([*fusion.parameters(), *out.parameters()], lr=1e-2, weight_decay=0.1)
    for _ in range(100):
        output = fusion(tokens, present)
        loss = F.cross_entropy(out(output.fused), y) + sum(output.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return fusion.eval(), out


@pytest.mark.usefixtures("single")
def test_a_shared_signal_is_read_from_whatever_is_left_where_half_lack_a_modality():
    generator = torch.Generator().manual_seed(0)
    (tokens, y, present), (new, new_y, _) = sides(1000, generator), sides(2000, generator)
    fusion, out = trained(tokens, y, present)

    def accuracy(present):
        return (out(fusion(new, present).fused).argmax(1) == new_y).double().mean().item()

    alone = [accuracy(without(new, name)) for name in "ab"]  # the best rule has .977, from both .998
    assert min(alone) > 0.93
    assert accuracy(everyone(new)) > max(*alone, 0.97)


def alike(parts):
    """Mean correlation, over units, of what two modalities have in a part (B, 2, D)."""
    return torch.stack([torch.corrcoef(unit)[0, 1] for unit in parts.permute(2, 1, 0)]).mean().item()


@pytest.mark.usefixtures("single")
def test_the_losses_sort_what_is_shared_from_what_is_distinct():
    generator = torch.Generator().manual_seed(0)
    (tokens, y, present), (new, _, _) = sides(400, generator), sides(400, generator)
    measured, shared, distinct = {}, {}, {}
    for case, weights in {"default": {}, "none": {"agreement": 0.0, "orthogonality": 0.0}}.items():
        fusion, _ = trained(tokens, y, present, **weights)
        fusion.agreement = fusion.orthogonality = 1.0
        measured[case] = fusion(new, everyone(new)).losses
        shared[case], distinct[case] = map(alike, parts_of(fusion, new, everyone(new), width=16))
    assert measured["default"]["agreement"] < 0.3 * measured["none"]["agreement"]
    assert measured["default"]["orthogonality"] < 0.3 * measured["none"]["orthogonality"]
    assert shared["default"] > shared["none"] + 0.05
    assert distinct["default"] < distinct["none"] - 0.1
