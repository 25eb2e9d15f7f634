"""Tensor fusion, whole and of low rank."""

import pytest
import torch
from _tokens import N_MODALITIES, WIDTH, assert_close, build, draw, everyone, inputs_of, without
from _tokens import double as double
from _tokens import single as single

from skfusion.fusion import LowRank, TensorFusion
from skfusion.fusion.tensor import _MOST_PRODUCTS

MISSING = pytest.mark.parametrize("missing", [(), ("a",), ("b",), ("a", "b")])


def outer(vectors):
    """Outer product of vectors (B, D) of each modality: (B, D, D, …)."""
    formula = {2: "zi,zj->zij", 3: "zi,zj,zk->zijk"}[len(vectors)]
    return torch.einsum(formula, *vectors)


def raised(embeddings, missing):
    """[1, z], and [1, 0] of those that are missing."""
    return [torch.cat([torch.ones(len(z), 1), z * (name not in missing)], 1) for name, z in zip("abc", embeddings)]


def combined(fusion, tokens, missing):
    """What comes before the last layers."""
    with inputs_of(fusion.refine) as seen:
        fusion(tokens, without(tokens, *missing))
    return seen[0]


@N_MODALITIES
@MISSING
def test_the_tensor_holds_every_unit_and_every_product(n_modalities, missing):
    fusion, tokens = build(TensorFusion, n_modalities), draw(n_modalities)
    units = [map_(t.values.mean(1)) for map_, t in zip(fusion.maps, tokens.values())]
    assert_close(combined(fusion, tokens, missing), outer(raised(units, missing)).flatten(1))


@N_MODALITIES
def test_what_is_missing_takes_its_products_and_leaves_the_others_units(n_modalities):
    fusion, tokens = build(TensorFusion, n_modalities), draw(n_modalities)
    shape = [map_.out_features + 1 for map_ in fusion.maps]
    whole, partial = (combined(fusion, tokens, missing).view(3, *shape) for missing in ((), ("b",)))
    assert torch.equal(partial[:, :, 0], whole[:, :, 0])
    assert not partial[:, :, 1:].any()
    assert whole.all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10])
def test_units_are_as_many_as_the_most_products_allow(n):
    fusion = TensorFusion({f"m{i}": 128 for i in range(n)}, 128)
    (narrow,) = {map_.out_features for map_ in fusion.maps}
    assert fusion.width == (narrow + 1) ** n <= _MOST_PRODUCTS
    assert narrow == 128 or (narrow + 2) ** n > _MOST_PRODUCTS


def test_more_modalities_than_a_tensor_can_hold_are_refused():
    with pytest.raises(ValueError, match=r"all of 13 modalities.*Use 'low_rank'"):
        TensorFusion({f"m{i}": 4 for i in range(13)}, 4)


@N_MODALITIES
@MISSING
@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_is_the_tensor_times_a_sum_of_outer_products_of_its_factors(n_modalities, missing, rank):
    fusion, tokens = build(LowRank, n_modalities, rank=rank), draw(n_modalities)
    tensor = outer(raised([t.values.mean(1) for t in tokens.values()], missing))  # (B, 1 + D, 1 + D, …)
    expected = torch.zeros(3, WIDTH)
    for unit in range(WIDTH):
        weight = sum(
            fusion.weights[r] * outer([fusion.factors[m, r, :, unit].unsqueeze(0) for m in range(n_modalities)])[0]
            for r in range(rank)
        )  # (1 + D, 1 + D, …)
        expected[:, unit] = (tensor * weight).flatten(1).sum(1)
    assert_close(combined(fusion, tokens, missing), expected)


@N_MODALITIES
def test_of_the_first_rank_with_constant_partners_it_is_linear(n_modalities):
    # Factors of all but the first modality at the constant 1: what remains is one linear map.
    fusion, tokens = build(LowRank, n_modalities, rank=1), draw(n_modalities)
    with torch.no_grad():
        fusion.factors[1:] = 0
        fusion.factors[1:, :, 0] = 1
    pooled = tokens["a"].values.mean(1)
    linear = fusion.factors[0, 0, 0] + pooled @ fusion.factors[0, 0, 1:]
    assert_close(combined(fusion, tokens, ()), fusion.weights[0] * linear)


@pytest.mark.usefixtures("single")
def test_many_modalities_do_not_make_low_rank_vanish_or_explode():
    names = [f"m{i}" for i in range(30)]
    tokens = draw(dict.fromkeys(names, 1), n_samples=50)
    torch.manual_seed(0)
    fusion = LowRank(dict.fromkeys(names, WIDTH), WIDTH).eval()
    with inputs_of(fusion.refine) as seen:
        fusion(tokens, everyone(tokens))
    assert 1e-2 < seen[0].std(0).median() < 1e4
