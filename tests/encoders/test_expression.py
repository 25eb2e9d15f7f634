"""The encoder of counts: what it is told, what it leaves out, and what layers share."""

import numpy as np
import pytest
import torch
from scipy import sparse

from skfusion import Modalities, MultimodalPretrainer
from skfusion.encoders import Expression, GeneEmbedding, ModalityBatch
from skfusion.preprocessing import Counts

COUNTS = np.random.default_rng(0).poisson(np.linspace(0.2, 6, 30), size=(80, 30))


def encoder(**options):
    torch.manual_seed(0)
    options = {"dropout_rate": 0.0, "counts": Counts().fit(COUNTS).statistics_, **options}
    return Expression((30,), 8, **options)


def batch(counts):
    counts = torch.as_tensor(counts, dtype=torch.float32)
    return ModalityBatch(counts, torch.ones(len(counts), 1, dtype=torch.bool), offset=counts.sum(1).log())


@pytest.mark.parametrize(("asked", "n_tokens"), [(1, 1), (4, 4), (7, 6), (512, 30)])
def test_genes_come_in_patches(asked, n_tokens):
    tokens = encoder(n_tokens=asked)(batch(COUNTS[:5]))
    assert tokens.values.shape == (5, n_tokens, 8)
    assert tokens.mask.shape == (5, n_tokens)


def test_depth_does_not_matter():
    built = encoder()
    torch.testing.assert_close(built(batch(3 * COUNTS)).values, built(batch(COUNTS)).values)


def test_a_gene_matters_to_its_own_patch_alone():
    built, values = encoder(n_tokens=3), batch(COUNTS[:4])
    other = values._replace(values=values.values + torch.eye(30)[11])
    changed = (built(other).values != built(values).values).any(-1)
    assert changed.tolist() == [[False, True, False]] * 4


def test_patches_add_up_to_what_one_token_would_hold():
    one, several = encoder(n_tokens=1), encoder(n_tokens=5)
    several.load_state_dict({**one.state_dict(), "position": several.position.detach() * 0})
    found = several(batch(COUNTS)).values.mean(1)
    torch.testing.assert_close(found, one(batch(COUNTS)).values[:, 0] - one.position, rtol=1e-4, atol=1e-4)


def test_the_mean_cell_is_at_the_position():
    built = encoder(n_tokens=2)
    with torch.no_grad():
        built.curve[-1].weight.zero_()
        built.curve[-1].bias.zero_()
    found = built(batch(COUNTS)).values.mean(0)
    torch.testing.assert_close(found, built.position, rtol=0, atol=1e-4)


def test_layers_share_their_genes():
    genes = GeneEmbedding(30, 8, start=np.ones((30, 3)))
    first, second = encoder(gene_embedding=genes), encoder(gene_embedding=genes)
    assert first.genes is second.genes
    assert (genes.weight[:, :3] == 1).all()
    assert not GeneEmbedding(30, 8, learn=False).weight.requires_grad
    with pytest.raises(ValueError, match="gene_embedding is of shape"):
        encoder(gene_embedding=GeneEmbedding(29, 8))


def test_raw_counts_reach_it_and_their_total_stays_apart():
    X = {"a": sparse.csr_matrix(COUNTS), "b": np.random.default_rng(1).normal(size=(80, 4))}
    pretrainer = MultimodalPretrainer(
        encoders={"a": "expression"}, max_epochs=1, n_latent=8, n_heads=2, device="cpu", random_state=0
    ).fit(X)
    found = next(pretrainer._tensors(Modalities(X)).iterate(20)).batch
    np.testing.assert_array_equal(found.modalities["a"].values, COUNTS[:20])
    np.testing.assert_allclose(found.modalities["a"].offset.exp(), COUNTS[:20].sum(1), rtol=1e-5)
    assert found.modalities["b"].offset is None


def test_a_cell_without_a_count_is_finite():
    rows = COUNTS.copy()
    rows[:3] = 0
    pretrainer = MultimodalPretrainer(
        ["expression"], "expression", max_epochs=1, n_latent=8, n_heads=2, device="cpu", random_state=0
    ).fit({"a": sparse.csr_matrix(rows), "b": sparse.csr_matrix(rows)})
    assert np.isfinite(pretrainer.transform({"a": sparse.csr_matrix(rows)})).all()


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="n_tokens is 600"):
        encoder(n_tokens=600)
