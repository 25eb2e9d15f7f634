"""What the tests of the fusions share; a module of its own, so that worker processes can import it."""

from contextlib import contextmanager

import pytest
import torch

from skfusion.encoders.batch import Tokens

WIDTH = 8
N_HEADS = 2
LENGTHS = {"a": 4, "b": 5, "c": 3}
N_MODALITIES = pytest.mark.parametrize("n_modalities", [2, 3])


@pytest.fixture(autouse=True)
def double():
    """Work in float64, in which what is equal by algebra is equal to ten digits; in every file that imports this."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def single(double):
    """Work in float32, as networks do; for what is to be equal to the bit."""
    torch.set_default_dtype(torch.float32)


def build(fusion_class, n_modalities, **options):
    """A fusion in evaluation, none of whose parameters is so near to 0 or 1 that it could be left out unseen."""
    names = list(LENGTHS)[:n_modalities]
    torch.manual_seed(0)
    fusion = fusion_class(dict.fromkeys(names, WIDTH), WIDTH, n_heads=N_HEADS, **options).eval()
    return shaken(fusion)


def shaken(module, size=0.3):
    """Move every parameter by noise."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return module


def draw(lengths, n_samples=3, seed=0):
    """Tokens of each modality, all of them real; `lengths` may be a number of modalities."""
    if isinstance(lengths, int):
        lengths = {name: LENGTHS[name] for name in list(LENGTHS)[:lengths]}
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Tokens(
            torch.randn(n_samples, length, WIDTH, generator=generator), torch.ones(n_samples, length, dtype=torch.bool)
        )
        for name, length in lengths.items()
    }


def everyone(tokens):
    """Presence (B, M) of all."""
    return torch.ones(len(next(iter(tokens.values())).values), len(tokens), dtype=torch.bool)


def without(tokens, *missing):
    """Presence (B, M) of all but `missing`."""
    present = everyone(tokens)
    present[:, [list(tokens).index(name) for name in missing]] = False
    return present


def noise_for(tokens, *names, seed=9):
    """The same tokens, those of `names` replaced by noise."""
    other = draw({name: t.values.shape[1] for name, t in tokens.items()}, len(everyone(tokens)), seed=seed)
    return {name: Tokens(10 * other[name].values, t.mask) if name in names else t for name, t in tokens.items()}


def padded(tokens, name, n_real):
    """The same tokens, of which only the first `n_real` of modality `name` are real."""
    values, mask = tokens[name]
    return {**tokens, name: Tokens(values, mask & (torch.arange(mask.shape[1]) < n_real))}


def influence(function, tokens, name):
    """How much each token of `name` moves each number that `function` makes of a sample: (…, T).

    One sample is repeated as often as there are numbers, so that one pass gives the whole jacobian.
    """
    shape = function(tokens).shape[1:]
    n = shape.numel()
    copies = {other: Tokens(values.repeat(n, 1, 1), mask.repeat(n, 1)) for other, (values, mask) in tokens.items()}
    values = copies[name].values.requires_grad_()
    diagonal = function(copies).reshape(n, n).diagonal()
    (gradient,) = torch.autograd.grad(diagonal.sum(), values, allow_unused=True, materialize_grads=True)  # (n, T, D)
    return gradient.abs().sum(-1).view(*shape, -1)


def head(fusion, name):
    """A head (B, D) as a function of tokens that are all present."""
    return lambda tokens: fusion(tokens, everyone(tokens)).heads[name]


def mixed(fusion, name):
    """What the fusion made of a modality's tokens (B, T, D), as a function of tokens that are all present."""
    return lambda tokens: fusion(tokens, everyone(tokens)).tokens[name].values


@contextmanager
def inputs_of(module):
    """Record the first input of every call of `module`."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()


def assert_close(found, expected):
    """Equal but for rounding."""
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}[found.dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
