"""What is special about the encoders that give several tokens: which part of a sample is in which token, and how."""

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from skfusion import JointFusionClassifier
from skfusion.encoders import FeatureTokenizer, ModalityBatch, Patch2d, Patch3d, Patches, Regions, Steps
from skfusion.encoders.regions import with_size
from skfusion.encoders.tokens import sinusoids

NAN = np.nan
WIDTH = 5


def batch(values, mask=None):
    """Samples of which everything is real, where `mask` does not say otherwise."""
    length = values.shape[1] if values.ndim == 3 else 1
    return ModalityBatch(values, torch.ones(len(values), length, dtype=torch.bool) if mask is None else mask)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(encoder_class, shape, **options):
    torch.manual_seed(0)
    return encoder_class(shape, WIDTH, n_hidden=7, n_layers=2, **options).eval()


def tokens(encoder, values, mask=None):
    with torch.no_grad():
        return encoder(batch(values, mask)).values


def fit(encoder, X, y, **params):
    params = {"n_latent": WIDTH, "max_epochs": 2, "device": "cpu", "random_state": 0, **params}
    return JointFusionClassifier(encoder, **params).fit(X, y)


def seen_and_given(model, X):
    """What the one encoder of a fitted model sees of `X`, and the tokens that it gives."""
    calls = []
    encoder = model.network_.encoders[0]
    handle = encoder.register_forward_hook(lambda _, given, tokens: calls.append((given[0].values, tokens.values)))
    model.predict(X)
    handle.remove()
    # Batches are padded with empty samples.
    ((seen, given),) = calls
    n_samples = len(X["m"])
    return seen[:n_samples], given[:n_samples]


# Features


def test_the_token_of_a_number_is_its_bias_plus_the_number_times_its_vector():
    encoder, x = build(FeatureTokenizer, (3,)), draw(4, 3)
    found = tokens(encoder, x)
    assert found.shape == (4, 3, WIDTH)
    for row, feature in product(range(4), range(3)):
        expected = encoder.bias[feature] + x[row, feature] * encoder.weight[feature]
        torch.testing.assert_close(found[row, feature], expected)


def test_the_columns_of_a_feature_add_up_wherever_they_lie():
    encoder, x = build(FeatureTokenizer, (4,), groups=[1, 0, 1, 2]), draw(6, 4)
    found, each = tokens(encoder, x), x.unsqueeze(-1) * encoder.weight
    assert found.shape == (6, 3, WIDTH)
    torch.testing.assert_close(found[:, 0], encoder.bias[0] + each[:, 1])
    torch.testing.assert_close(found[:, 1], encoder.bias[1] + each[:, 0] + each[:, 2])
    torch.testing.assert_close(found[:, 2], encoder.bias[2] + each[:, 3])


def test_a_category_is_the_embedding_of_its_level_and_an_unknown_one_is_the_bias():
    colour, size = ["red", "blue", "green"] * 10, ["s", "l"] * 15
    frame = pd.DataFrame({"colour": pd.Categorical(colour), "age": np.arange(30.0), "size": size})
    model = fit("tokens", {"m": frame}, np.arange(30) % 3)
    encoder = model.network_.encoders[0]
    assert encoder.bias.shape == (3, WIDTH)
    assert encoder.weight.shape == (1 + 3 + 2, WIDTH)
    new = pd.DataFrame({"colour": ["green", "blue", "purple"], "age": [14.5, 1.0, 2.0], "size": ["s", "xl", "l"]})
    _, found = seen_and_given(model, {"m": new})
    # Numbers come first, then levels in alphabetical order: age; blue, green, red; l, s.
    torch.testing.assert_close(found[0, 0], encoder.bias[0])
    embeddings = encoder.bias[1] + encoder.weight[1:4]
    assert torch.equal(found[:, 1], torch.stack([embeddings[1], embeddings[0], encoder.bias[1]]))
    embeddings = encoder.bias[2] + encoder.weight[4:6]
    assert torch.equal(found[:, 2], torch.stack([embeddings[1], encoder.bias[2], embeddings[0]]))


@pytest.mark.parametrize("frame", [{"a": ["x", "y"] * 10}, {"n": np.arange(20.0)}, {"n": np.arange(20.0), "b": True}])
def test_a_frame_has_a_token_a_column_of_its_own(frame):
    frame = pd.DataFrame(frame)
    _, found = seen_and_given(fit("tokens", {"m": frame}, np.arange(20) % 2), {"m": frame})
    assert found.shape == (20, frame.shape[1], WIDTH)


@pytest.mark.parametrize("groups", [[0, 1], [0, 1, 1, 2], [0, 2, 2], [1, 2, 2], [-1, 0, 1]])
def test_groups_that_do_not_say_the_feature_of_each_column_raise(groups):
    with pytest.raises(
        ValueError, match=r"groups has \d entries, .*; due is one entry for each of the 3 columns, the number of its"
    ):
        FeatureTokenizer((3,), WIDTH, groups=groups)


@pytest.mark.parametrize("encoder_class", [FeatureTokenizer, partial(Patches, patch_size=1)])
def test_inputs_of_vectors_are_dropped_at_two_fifths_of_the_rate(encoder_class):
    encoder = encoder_class((1000,), 1, dropout_rate=0.5).train()
    torch.manual_seed(0)
    with torch.no_grad():
        dropped = (encoder(batch(torch.ones(20, 1000))).values == encoder.bias).float().mean()
    assert abs(float(dropped) - 0.2) < 0.015


# Patches of vectors


@pytest.mark.parametrize(
    ("width", "patch_size", "n_tokens"),
    [(1, None, 1), (6, None, 6), (8, None, 8), (16, None, 8), (17, None, 6), (100, None, 8), (10, 4, 3), (3, 10, 1)],
)
def test_a_vector_has_as_many_tokens_as_patches(width, patch_size, n_tokens):
    encoder = build(Patches, (width,), patch_size=patch_size)
    assert tokens(encoder, draw(2, width)).shape == (2, n_tokens, WIDTH)


def test_each_patch_of_a_vector_has_a_map_of_its_own_and_the_last_may_be_short():
    encoder, x = build(Patches, (10,), patch_size=4), draw(3, 10)
    assert not torch.equal(encoder.weight[0], encoder.weight[1])
    parts = [x[:, :4], x[:, 4:8], x[:, 8:]]
    expected = [part @ encoder.weight[t, : part.shape[1]] + encoder.bias[t] for t, part in enumerate(parts)]
    torch.testing.assert_close(tokens(encoder, x), torch.stack(expected, dim=1))


# Patches of images and volumes


@pytest.mark.parametrize(
    ("encoder_class", "shape", "patch_size", "n_tokens"),
    [
        (Patch2d, (3, 8, 8), None, 4 * 4),
        (Patch2d, (1, 10, 7), None, 5 * 4),
        (Patch2d, (1, 3, 40), None, 3 * 40),
        (Patch2d, (1, 10, 7), 4, 3 * 2),
        (Patch2d, (1, 2, 3), 5, 1),
        (Patch3d, (2, 5, 6, 7), None, 3 * 3 * 4),
        (Patch3d, (2, 5, 6, 7), 4, 2 * 2 * 2),
    ],
)
def test_a_grid_has_as_many_tokens_as_patches(encoder_class, shape, patch_size, n_tokens):
    encoder = build(encoder_class, shape, patch_size=patch_size)
    assert encoder(batch(draw(2, *shape))).mask.shape == (2, n_tokens)
    assert tokens(encoder, draw(2, *shape)).shape == (2, n_tokens, WIDTH)


GRIDS = pytest.mark.parametrize(
    ("encoder_class", "shape", "grid"), [(Patch2d, (2, 7, 5), (3, 2)), (Patch3d, (2, 4, 7, 5), (2, 3, 2))]
)


@GRIDS
def test_each_pixel_is_in_the_one_token_of_its_patch(encoder_class, shape, grid):
    encoder = build(encoder_class, shape, patch_size=3)
    n_pixels = int(np.prod(shape))
    changed = tokens(encoder, torch.eye(n_pixels).view(n_pixels, *shape)) != tokens(encoder, torch.zeros(1, *shape))
    found = changed.any(-1).numpy()  # (pixels, T)
    _, *position = np.unravel_index(np.arange(n_pixels), shape)
    expected = np.ravel_multi_index([axis // 3 for axis in position], grid)
    np.testing.assert_array_equal(found, np.arange(np.prod(grid)) == expected[:, None])


@GRIDS
def test_patches_are_a_convolution_without_overlap_plus_a_position(encoder_class, shape, grid):
    encoder, x = build(encoder_class, shape, patch_size=3), draw(4, *shape)
    padding = [n for size, n_patches in zip(shape[:0:-1], grid[::-1]) for n in (0, 3 * n_patches - size)]
    convolve, kernel = (F.conv2d if len(grid) == 2 else F.conv3d), (3,) * len(grid)
    weight = encoder.linear.weight.view(WIDTH, shape[0], *kernel)
    expected = convolve(F.pad(x, padding), weight, encoder.linear.bias, stride=3).flatten(2).transpose(1, 2)
    assert len(encoder.position.unique(dim=0)) == np.prod(grid)
    torch.testing.assert_close(tokens(encoder, x), expected + encoder.position)


@pytest.mark.parametrize("patch_size", [0, -1, 1.5])
@pytest.mark.parametrize(("encoder_class", "shape"), [(Patches, (6,)), (Patch2d, (1, 6, 6)), (Patch3d, (1, 6, 6, 6))])
def test_a_patch_size_that_is_none_raises(encoder_class, shape, patch_size):
    with pytest.raises(ValueError, match=rf"patch_size is {patch_size}; due is a whole number of at least 1, or None"):
        encoder_class(shape, WIDTH, patch_size=patch_size)


# Steps


def test_a_step_is_mapped_by_itself_and_gets_its_position():
    encoder, x = build(Steps, (4, 3)), draw(2, 4, 3)
    torch.testing.assert_close(tokens(encoder, x), encoder.linear(x) + sinusoids(4, WIDTH, x))
    same = tokens(encoder, x[:, :1].expand(-1, 4, -1))
    assert torch.pdist(same[0]).min() > 0.1


@pytest.mark.parametrize("width", [1, 4, 5])
def test_positions_are_sines_and_cosines_of_ever_longer_waves(width):
    n_waves = (width + 1) // 2
    angle = np.arange(300)[:, None] / 10_000 ** (np.arange(n_waves) / n_waves)
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)[:, :width]
    np.testing.assert_allclose(sinusoids(300, width, torch.zeros(1)), expected, atol=1e-4)


def test_a_longer_sequence_starts_as_a_shorter_one():
    encoder, x = build(Steps, (4, 3)), draw(2, 40, 3)
    for length in (1, 4, 20):
        torch.testing.assert_close(tokens(encoder, x[:, :length]), tokens(encoder, x)[:, :length])


def test_sequences_of_another_length_than_in_training_are_predicted():
    X = np.random.default_rng(0).normal(size=(20, 6, 2))
    X[::2, 4:] = NAN
    model = fit("steps", {"m": X}, np.arange(20) % 2)
    for length in (2, 9):
        new = np.random.default_rng(1).normal(size=(5, length, 2))
        _, found = seen_and_given(model, {"m": new})
        assert found.shape == (5, length, WIDTH)
        assert np.isfinite(model.predict_proba({"m": new})).all()


# Regions


def draw_regions(n_samples=3, n_segments=0, seed=0):
    """Four regions a sample: two features, a box, and a segment id where there are segments."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((n_samples, 4, 2, 2)), axis=2).reshape(n_samples, 4, 4)
    parts = [rng.normal(5, 3, size=(n_samples, 4, 2)), corners]
    if n_segments:
        parts.append(rng.integers(0, n_segments, size=(n_samples, 4, 1)))
    return np.concatenate(parts, axis=2)


def as_tensor(values):
    return torch.from_numpy(values.astype(np.float32))


def test_a_box_knows_its_width_height_and_area():
    box = torch.tensor([[0.1, 0.2, 0.5, 0.4]])
    torch.testing.assert_close(with_size(box), torch.tensor([[0.1, 0.2, 0.5, 0.4, 0.4, 0.2, 0.08]]))


@pytest.mark.parametrize("n_box", [0, 4])
@pytest.mark.parametrize("n_segments", [0, 3])
def test_a_region_is_the_sum_of_features_box_and_segment(n_box, n_segments):
    x = as_tensor(draw_regions(n_segments=n_segments))
    encoder = build(Regions, x.shape[1:], n_box=n_box, n_segments=n_segments)
    expected = encoder.features(x[..., : 6 - n_box])
    if n_box:
        expected = expected + encoder.box(with_size(x[..., 2:6]))
    if n_segments:
        expected = expected + encoder.segment[x[..., 6].long()]
    torch.testing.assert_close(tokens(encoder, x), expected)
    assert encoder.n_raw == n_box + bool(n_segments)


def test_regions_in_another_order_give_the_same_tokens_in_that_order():
    x, order = as_tensor(draw_regions(n_segments=2)), [2, 0, 3, 1]
    encoder = build(Regions, (4, 7), n_segments=2)
    torch.testing.assert_close(tokens(encoder, x[:, order]), tokens(encoder, x)[:, order])


class RegionsOfThree(Regions):
    def __init__(self, *args, **options):
        super().__init__(*args, **options, n_segments=3)

    @classmethod
    def count_raw(cls, **options):
        return super().count_raw(n_segments=3)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(
    ("encoder", "n_segments"),
    [
        ("regions", 0),
        (Regions, 0),
        (partial(Regions, n_segments=3), 3),
        (RegionsOfThree, 3),
        ({"m": partial(Regions, n_segments=3)}, 3),
        (Regions((4, 7), WIDTH, n_segments=3), 3),
    ],
    ids=["name", "class", "partial", "class of its own", "partial in a dict", "module"],
)
def test_boxes_and_segments_reach_the_encoder_as_they_came(encoder, n_segments, scale):
    X = draw_regions(30, n_segments=n_segments)
    X[::3, 3:] = NAN
    model = fit(encoder, {"m": X}, np.arange(30) % 2, scale=scale)
    seen, _ = seen_and_given(model, {"m": X})
    np.testing.assert_array_equal(seen[:, :3, 2:], X[:, :3, 2:].astype(np.float32))
    np.testing.assert_array_equal(seen[::3, 3:], 0)
    features = seen[..., :2].numpy()[~np.isnan(X[..., 0])]
    np.testing.assert_allclose(
        features.mean(0), 0 if scale else X[..., :2][~np.isnan(X[..., 0])].mean(0), rtol=1e-5, atol=1e-5
    )


def test_a_segment_that_is_lacking_becomes_one_that_occurs():
    X = draw_regions(30, n_segments=2)
    X[0, 0, -1] = NAN
    with pytest.warns(UserWarning, match="single values are missing"):
        model = fit(partial(Regions, n_segments=2), {"m": X}, np.arange(30) % 2)
    seen, _ = seen_and_given(model, {"m": X})
    assert seen[0, 0, -1] in (0, 1)


@pytest.mark.parametrize(("odd", "shown"), [(3.0, "3"), (-1.0, "-1"), (0.5, "0.5"), (NAN, "nan"), (np.inf, "inf")])
def test_a_segment_id_out_of_range_raises_what_is_due(odd, shown):
    x = as_tensor(draw_regions(n_segments=3))
    x[1, 2, -1] = odd
    encoder = build(Regions, (4, 7), n_segments=3)
    with pytest.raises(
        ValueError, match=rf"a segment id is {shown}; due are whole numbers from 0 to 2 \(n_segments=3\)"
    ):
        encoder(batch(x))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2] = False
    assert tokens(encoder, x, mask).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"shape \(9, 4\), 4 channel\(s\); due are at least 5: features, then 4 of the box \(n_box\) and 0 of the"),
        ({"n_segments": 2}, r"4 channel\(s\); due are at least 6: .* and 1 of the segment \(n_segments=2\)"),
        ({"n_box": 2}, r"n_box is 2; due is 4 \(x1, y1, x2, y2\), or 0 where regions have no box"),
        ({"n_segments": -1}, r"n_segments is -1; due is the number of segments, or 0"),
    ],
)
def test_regions_without_room_for_a_box_raise_what_is_due(options, message):
    with pytest.raises(ValueError, match=message):
        Regions((9, 4), WIDTH, **options)
    with pytest.raises(ValueError, match=message):
        fit(partial(Regions, **options), {"m": np.zeros((20, 9, 4))}, np.arange(20) % 2)


# Encoders that are handed in as classes


def test_what_a_partial_sets_goes_before_what_the_estimator_sets():
    X, y = {"m": np.random.default_rng(0).normal(size=(20, 4))}, np.arange(20) % 2
    model = fit(partial(FeatureTokenizer, groups=[0, 0, 1, 1], dropout_rate=0.0), X, y, dropout_rate=0.4)
    assert model.network_.encoders[0].bias.shape == (2, WIDTH)
    assert model.network_.encoders[0].dropout.rate == 0
    assert fit(FeatureTokenizer, X, y, dropout_rate=0.5).network_.encoders[0].dropout.rate == 0.2
