"""What a fusion keeps when modalities join it."""

from itertools import product

import pytest
import torch

from skfusion._build import build_stand_in, resolve
from skfusion.encoders.batch import Tokens
from skfusion.fusion import FUSIONS
from skfusion.fusion.grow import grow, grown, places
from skfusion.fusion.missing import STAND_INS

WIDTH = 8
CHANGES = {
    "tensor": "all products are of another number, and its maps narrower",
    "low_rank": "a missing modality multiplies by a constant of its own, which is not yet learned",
    "shared_specific": "what the others share stands in for a missing modality, and that is read by fresh weights",
    "mixture_of_experts": "a learned embedding stands in for a missing modality, and patterns have more experts",
}
"""Fusions whose fused embedding is another one once there is a further modality, though no sample has it."""
SIZES = pytest.mark.parametrize(("n_old", "n_new"), [(1, 2), (2, 3), (2, 4), (3, 4)])
WIDTHS = pytest.mark.parametrize("widths", [(8, 8, 8, 8), (6, 8, 1, 3)], ids=["equal", "unequal"])


def draw(present, widths, length=3):
    generator = torch.Generator().manual_seed(0)
    return {
        f"m{m}": Tokens(
            torch.randn(len(present), length, width, generator=generator), present[:, [m]].expand(-1, length)
        )
        for m, width in enumerate(widths)
    }


def learned(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def before_and_after(name, widths, n_old):
    cls = resolve("fusion", name, FUSIONS)
    named = {f"m{m}": width for m, width in enumerate(widths)}
    torch.manual_seed(0)
    old = learned(cls(dict(list(named.items())[:n_old]), WIDTH, n_heads=2))
    new = cls(named, WIDTH, n_heads=2).eval()
    grow(old, new, widths[:n_old], widths)
    present = torch.tensor([pattern for pattern in product([True, False], repeat=n_old) if any(pattern)])
    without = torch.cat([present, torch.zeros(len(present), len(widths) - n_old, dtype=torch.bool)], dim=1)
    return old(draw(present, widths[:n_old]), present), new(draw(without, widths), without)


@SIZES
@WIDTHS
@pytest.mark.parametrize("name", FUSIONS)
def test_samples_that_lack_the_new_modality_are_fused_as_before(name, n_old, n_new, widths):
    expected, found = before_and_after(name, widths[:n_new], n_old)
    for head, embedding in expected.heads.items():
        if name in CHANGES and head in ("fusion", "global"):
            continue
        torch.testing.assert_close(found.heads[head], embedding, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CHANGES)
def test_the_exceptions_are_exceptions(name):
    expected, found = before_and_after(name, (8, 8, 8), 2)
    assert (found.fused - expected.fused).abs().max() > 1e-3


@SIZES
@WIDTHS
@pytest.mark.parametrize("name", STAND_INS)
def test_what_stands_in_for_a_known_modality_stays(name, n_old, n_new, widths):
    widths = widths[:n_new]
    named = {f"m{m}": width for m, width in enumerate(widths)}
    torch.manual_seed(0)
    old = learned(build_stand_in(name, dict(list(named.items())[:n_old])))
    for key, buffer in old.named_buffers():
        buffer.copy_(torch.randn(buffer.shape) if "centres" in key else torch.rand(buffer.shape))
    new = build_stand_in(name, named).eval()
    grow(old, new, widths[:n_old], widths)
    present = torch.tensor(list(product([True, False], repeat=n_old)))
    without = torch.cat([present, torch.zeros(len(present), n_new - n_old, dtype=torch.bool)], dim=1)
    expected, _ = old.stand_ins(draw(present, widths[:n_old]), present)
    found, _ = new.stand_ins(draw(without, widths), without)
    for due, came in zip(expected, found):
        torch.testing.assert_close(came, due, rtol=1e-5, atol=1e-6)


def test_places_of_a_dimension():
    def where(n_old, n_new, *, inputs, widths=((4, 4), (4, 4, 4))):
        found = places(n_old, n_new, *widths, inputs=inputs)
        return None if found is None else found.tolist()

    assert where(5, 5, inputs=True) == [0, 1, 2, 3, 4]
    assert where(4, 5, inputs=False) == [0, 1, 3, 4]  # one a modality, and two at the end
    assert where(2, 3, inputs=False) == [0, 1]
    assert where(6, 9, inputs=False) == [0, 1, 2, 3, 4, 5]
    assert where(8, 12, inputs=True) == list(range(8))  # tokens side by side
    assert where(10, 15, inputs=True) == [*range(8), 12, 13]  # and one a modality
    assert where(5, 7, inputs=True, widths=((2, 3), (2, 3, 2))) == [0, 1, 2, 3, 4]
    assert where(16, 17, inputs=True, widths=((8, 8), (8, 8, 1))) == list(range(16))
    assert where(9, 31, inputs=True) is None
    assert where(9, 8, inputs=False) is None


def test_what_no_rule_fits_stays_fresh():
    old = {"same": torch.ones(2), "gone": torch.ones(1), "other": torch.ones(9), "slots": torch.ones(4, 2)}
    new = {"same": torch.zeros(2), "more": torch.zeros(1), "other": torch.zeros(31), "slots": torch.zeros(5, 2)}
    state = grown(old, new, [8, 8], [8, 8, 8])
    assert list(state) == list(new)
    assert state["same"].tolist() == [1, 1]
    assert not state["other"].any()
    assert not state["more"].any()
    assert state["slots"][:, 0].tolist() == [1, 1, 0, 1, 1]
    assert not new["same"].any()
