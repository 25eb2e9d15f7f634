import sys
from ast import literal_eval
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from skfusion.fusion import FUSIONS, Bottleneck, EverythingAtOnce, Zorro
from skfusion.fusion.masks import FUSION, GLOBAL, own_mask, readout_mask, zorro_mask
from skfusion.inspection import AttentionMaskDisplay

mpl.use("agg")
COUNTS = {"rna": 2, "protein": 3, "notes": 1}
OWNERS = torch.tensor([0, 0, 1, 1, 1, 2])
WITH_FUSION = torch.tensor([0, 0, 1, 1, 1, 2, FUSION, FUSION, FUSION, FUSION])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def drawn(fusion, modalities=COUNTS, **options):
    """What is on the panels, by title."""
    images = AttentionMaskDisplay.from_fusion(fusion, modalities, **options).images_
    return {title: torch.tensor(image.get_array().filled()) > 0 for title, image in images.items()}


def assert_shows(fusion, expected, modalities=COUNTS, **options):
    found = drawn(fusion, modalities, **options)
    assert list(found) == list(expected)
    for title, mask in expected.items():
        assert torch.equal(found[title], mask), title


def everyone(*shape):
    return torch.ones(shape, dtype=torch.bool)


def test_zorro_shows_its_mask_and_what_its_queries_read():
    queries = torch.tensor([0, 1, 2, FUSION, GLOBAL])
    expected = {
        "layers 1, 2 and 3": zorro_mask(WITH_FUSION, WITH_FUSION),
        "read-out": readout_mask(queries, WITH_FUSION),
    }
    assert_shows("zorro", expected, n_fusion_layers=3)


def test_a_bottleneck_shows_that_modalities_see_themselves_and_the_fusion_tokens():
    own, fusion = own_mask(WITH_FUSION, WITH_FUSION), WITH_FUSION == FUSION
    assert_shows("bottleneck", {"layers 1 and 2": own | fusion | fusion.unsqueeze(1)})


@pytest.mark.parametrize("fusion", ["early_concat", "irene"])
def test_all_see_all_where_nothing_keeps_them_apart(fusion):
    assert_shows(fusion, {"layers 1 and 2": everyone(6, 6)})


def test_layers_that_differ_have_panels_of_their_own():
    own, shared = own_mask(OWNERS, OWNERS), everyone(6, 6)
    assert_shows("hierarchical", {"layer 1": own, "layer 2": shared})
    assert_shows("hierarchical_split", {"layer 1": shared, "layer 2": own})
    assert_shows("cross_attention_concat", {"layer 1": ~own, "layers 2 and 3": shared})


def test_blocks_of_single_modalities_run_side_by_side_however_many_there_are():
    own, shared = own_mask(OWNERS, OWNERS), everyone(6, 6)
    assert_shows("hierarchical", {"layers 1 and 2": own, "layers 3 and 4": shared}, n_fusion_layers=4)


def test_a_fusion_of_one_layer_has_one_panel():
    assert_shows("cross_attention", {"layer 1": ~own_mask(OWNERS, OWNERS)})
    assert_shows("protst", {"layer 1": everyone(6, 6)})


def test_each_set_of_modalities_that_a_block_runs_over_has_a_panel():
    alone = {name: everyone(n, n) for name, n in COUNTS.items()}
    both = {"rna+protein": everyone(5, 5), "rna+notes": everyone(3, 3), "protein+notes": everyone(4, 4)}
    assert_shows("everything_at_once", {**alone, **both})
    assert_shows(partial(EverythingAtOnce, max_subset=3), {**alone, **both, "rna+protein+notes": everyone(6, 6)})


def test_tokens_that_were_moved_are_as_many_as_those_that_they_were_moved_to():
    display = AttentionMaskDisplay.from_fusion("optimal_transport", COUNTS)
    (mask,) = display.masks.values()
    assert mask.to_numpy().all()
    assert list(mask.index) == ["rna"] * 2 + ["protein"] * 2 + ["notes"] * 2


def test_a_sum_of_tokens_belongs_to_the_fusion():
    (mask,) = AttentionMaskDisplay.from_fusion("early_sum", {"rna": 3, "protein": 3}).masks.values()
    assert set(mask.index) == {"fusion"}
    assert mask.shape == (3, 3)


def test_one_query_sees_one_embedding_a_modality():
    display = AttentionMaskDisplay.from_fusion("attention", COUNTS)
    (mask,) = display.masks.values()
    assert list(mask.index) == ["global"]
    assert list(mask.columns) == list(COUNTS)
    assert mask.to_numpy().all()


def test_three_tokens_of_each_of_two_modalities_are_the_default():
    (mask,) = AttentionMaskDisplay.from_fusion("early_concat").masks.values()
    assert list(mask.index) == list(mask.columns) == ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize("fusion", [Zorro, partial(Zorro, n_fusion_tokens=4), Zorro({"a": 8, "b": 8}, 8)])
def test_a_fusion_comes_in_every_form_that_an_estimator_takes(fusion):
    named, given = (AttentionMaskDisplay.from_fusion(f) for f in ("zorro", fusion))
    assert list(given.masks) == list(named.masks)
    assert all(given.masks[title].equals(mask) for title, mask in named.masks.items())
    assert given.figure_.get_suptitle() == "Zorro"
    assert named.figure_.get_suptitle() == "zorro"


def test_a_partials_options_are_drawn():
    (mask,) = AttentionMaskDisplay.from_fusion(partial(Bottleneck, n_fusion_tokens=1)).masks.values()
    assert list(mask.index).count("fusion") == 1


def test_a_fusion_without_attention_raises_and_names_those_that_have_it():
    with pytest.raises(ValueError, match="fusion='concat' records no attention between tokens; due is one of") as info:
        AttentionMaskDisplay.from_fusion("concat")
    named = literal_eval(str(info.value).partition("due is one of ")[2].rstrip("."))
    assert {"attention", "early_concat", "zorro", "everything_at_once"} < set(named) < set(FUSIONS)
    for fusion in FUSIONS:
        if fusion in named:
            assert all(mask.to_numpy().any() for mask in AttentionMaskDisplay.from_fusion(fusion).masks.values())
        else:
            with pytest.raises(ValueError, match=f"fusion='{fusion}' records no attention"):
                AttentionMaskDisplay.from_fusion(fusion)


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["a", "b"], r"modalities is \['a', 'b'\]; due is a dict of name to number of tokens"),
        ({}, "modalities is {}; due is a dict"),
        ({"a": 2, "b": 0}, "modality 'b' has 0 tokens; due is a whole number of at least 1"),
        ({"a": 2, "b": 1.5}, "modality 'b' has 1.5 tokens"),
        ({"a": 2, "global": 2}, "a modality is called 'global', which is the name of a head"),
    ],
)
def test_what_modalities_cannot_be(modalities, message):
    with pytest.raises(ValueError, match=message):
        AttentionMaskDisplay.from_fusion("zorro", modalities)


def test_nothing_random_is_left_behind():
    before = torch.get_rng_state()
    first = AttentionMaskDisplay.from_fusion("zorro").masks
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    second = AttentionMaskDisplay.from_fusion("zorro").masks
    assert all(mask.equals(second[title]) for title, mask in first.items())


def test_owners_are_written_once_and_lines_lie_between_them():
    display = AttentionMaskDisplay.from_fusion("zorro", COUNTS)
    layers, _ = display.axes_
    assert layers.get_title() == "layers 1 and 2"
    assert [label.get_text() for label in layers.get_yticklabels()] == [*COUNTS, "fusion"]
    assert list(layers.get_xticks()) == [0.5, 3, 5, 7.5]
    assert [line.get_xdata()[0] for line in layers.lines if line.get_xdata()[0] == line.get_xdata()[1]] == [
        1.5,
        4.5,
        5.5,
    ]
    assert layers.get_xticklabels()[0].get_rotation() == 90, "'notes' is wider than its token"
    short = AttentionMaskDisplay.from_fusion("zorro").axes_[0]
    assert short.get_xticklabels()[0].get_rotation() == 0


@pytest.mark.parametrize("fusion", ["attention", "everything_at_once", "zorro"])
def test_everything_lies_inside_the_figure(fusion):
    figure = AttentionMaskDisplay.from_fusion(fusion, {"spliced": 1, "unspliced": 4}).figure_
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert -0.01 <= box.x0 < box.x1 <= width + 0.01
    assert -0.01 <= box.y0 < box.y1 <= height + 0.01


def test_axes_and_artists_can_be_given():
    figure, axes = plt.subplots(1, 2)
    display = AttentionMaskDisplay.from_fusion("zorro", ax=axes, image_kw={"cmap": "Greys"})
    assert list(display.axes_) == list(axes)
    assert display.figure_ is figure
    assert not figure.get_suptitle()
    assert display.images_["read-out"].get_cmap().name == "Greys"
    assert display.plot() is display
    assert display.figure_ is not figure
    _, ax = plt.subplots()
    assert AttentionMaskDisplay.from_fusion("early_concat", ax=ax).axes_[0] is ax
    with pytest.raises(ValueError, match=r"ax has 1 Axes; due are 2, one for each of \['layers 1 and 2', 'read-out'\]"):
        AttentionMaskDisplay.from_fusion("zorro", ax=ax)


def test_a_display_of_given_masks_draws_them():
    masks = {"one": AttentionMaskDisplay.from_fusion("early_concat").masks["layers 1 and 2"]}
    display = AttentionMaskDisplay(masks=masks).plot()
    np.testing.assert_array_equal(display.images_["one"].get_array(), 1)
    assert not display.figure_.get_suptitle()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'skfusion\[plot\]'"):
        AttentionMaskDisplay.from_fusion("zorro")
