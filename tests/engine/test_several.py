"""Several masks of one picture: each against the rest, all into one output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memory_pictures import Model, Output, Picture, bent_lut, colours, soft_disc

from hzcli.core.transform import Reach
from hzcli.core.window import Window
from hzcli.engine import several, stream
from hzcli.engine.rest import extended
from hzcli.errors import MaskError, PictureError

H, W = 96, 140
LEFT = soft_disc(H, W, 8, (0.5, 0.25), 18)
RIGHT = soft_disc(H, W, 8, (0.5, 0.75), 18)
assert not (LEFT.astype(bool) & RIGHT.astype(bool)).any()


class Shade:
    """Towards the mean of the background that the thumbnail shows."""

    thumbnail_edge = 32

    def __init__(self, **traits):
        self.seen = []
        self.__dict__.update(traits)

    def predict(self, thumb):
        self.seen.append(thumb)
        share = 1 - thumb.mask
        return Towards((thumb.rgb * share).sum((2, 3)) / share.sum((2, 3)))

    predict_lut = predict


class Towards:
    reach = Reach()

    def __init__(self, mean):
        self.mean = mean

    def apply(self, rgb, mask, window):
        return 0.5 * rgb + 0.5 * self.mean[..., None, None]


class Bound(Towards):
    """Shades by the mean of the background that it sees in the picture itself."""

    def bind(self, source):
        rgb, mask = source.read(Window.whole(source.size))
        share = 1 - mask
        return Towards((rgb * share).sum((2, 3)) / share.sum((2, 3)))


def run(picture, *masks, model=None, **options):
    output = Output()
    readers = [Picture(mask, f"x_m{n}.png") for n, mask in enumerate(masks, 1)]
    model = Shade() if model is None else model
    return output, several.harmonise(Picture(picture), readers, model, output, **options)


def objects(depth=16):
    """A grey ramp with a red and a blue disc on it."""
    full = (1 << depth) - 1
    ramp = np.linspace(0.3, 0.5, W)[None, :, None].repeat(H, 0).repeat(3, 2)
    for mask, colour in ((LEFT, (1, 0, 0)), (RIGHT, (0, 0, 1))):
        share = (mask / 255)[..., None]
        ramp = ramp * (1 - share) + np.array(colour) * share
    return np.round(ramp * full).astype(np.uint8 if depth == 8 else np.uint16)


@pytest.mark.parametrize("depth", [8, 16])
def test_one_mask_is_what_it_was(depth):
    """With one mask the engine is asked as ever."""
    picture, output = colours(H, W, depth), Output()
    stream.harmonise(Picture(picture), Picture(LEFT), Shade(), output)
    alone, outcome = run(picture, LEFT)
    assert (alone.array == output.array).all()
    assert not isinstance(outcome, several.Several)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("mode", ["region", "lut"])
def test_masks_that_lie_apart_are_as_if_each_ran_alone(depth, mode):
    """A model that does not look at the picture gives both foregrounds as two runs would."""
    picture = colours(H, W, depth)
    both, _ = run(picture, LEFT, RIGHT, model=Model(bent_lut()), mode=mode)
    first, _ = run(picture, LEFT, model=Model(bent_lut()), mode=mode)
    second, _ = run(picture, RIGHT, model=Model(bent_lut()), mode=mode)
    widened = picture.astype(np.uint16) * (257 if depth == 8 else 1)
    expected = np.where(LEFT[..., None] > 0, first.array, second.array)
    # The second step reads 8 bits as 16, which float32 rounds another way.
    error = np.abs(both.array.astype(int) - expected)
    assert error.max() <= (1 if depth == 8 else 0)
    outside = (LEFT == 0) & (RIGHT == 0)
    assert (both.array[outside] == widened[outside]).all()


def test_the_order_does_not_matter_to_masks_that_lie_apart():
    """Neither sees the other, harmonised or not."""
    picture = objects()
    a, _ = run(picture, LEFT, RIGHT)
    b, _ = run(picture, RIGHT, LEFT)
    # What an edge of the other leaves in the thumbnail: a hundredth of the range at most.
    assert np.abs(a.array.astype(int) - b.array).max() < 0.01 * 65535


def test_a_foreground_is_harmonised_against_the_background_alone():
    """What the model sees for one disc is the picture as it would be without the other."""
    model = Shade()
    run(objects(), LEFT, RIGHT, model=model)
    ramp = np.round(np.linspace(0.3, 0.5, W)[None, :, None] * 65535).repeat(H, 0).repeat(3, 2)
    share = (LEFT / 255)[..., None]
    bare = np.round(ramp * (1 - share) + np.array((65535, 0, 0)) * share).astype(np.uint16)
    alone = Shade()
    run(bare, LEFT, model=alone)
    shown, wanted = model.seen[0].rgb, alone.seen[0].rgb
    other = model.seen[1].mask > 0.9
    # The blue disc is gone: its place is grey, near the ramp.
    assert (shown - wanted).abs().max() < 0.02
    assert (shown - wanted).abs().mean() < 0.005
    spread = shown.amax(1, keepdim=True) - shown.amin(1, keepdim=True)
    assert spread[other].max() < 0.05
    assert torch.equal(model.seen[0].mask, alone.seen[0].mask)


def test_the_closeup_of_a_mask_does_not_show_the_other():
    """The box of a large foreground may hold a small one."""
    ring = (soft_disc(H, W, 8, (0.5, 0.5), 40) > 0) & (soft_disc(H, W, 8, (0.5, 0.5), 20) == 0)
    ring = (255 * ring).astype(np.uint8)
    spot = soft_disc(H, W, 8, (0.5, 0.5), 6)
    picture = np.full((H, W, 3), 20000, np.uint16)
    picture[ring > 0] = 30000
    share = (spot / 255)[..., None]
    picture = (picture * (1 - share) + np.array((0, 0, 65535)) * share).astype(np.uint16)
    model = Shade(needs_closeup=True)
    run(picture, ring, spot, model=model)
    shown = model.seen[0].closeup.rgb
    assert float((shown[:, 2] - shown[:, 0]).max()) < 0.05


def test_a_transform_that_looks_at_the_picture_does_not_see_the_others():
    """`bind` reads the picture with the other foreground painted over."""

    class Binding(Shade):
        def predict(self, thumb):
            return Bound(super().predict(thumb).mean)

        predict_lut = predict

    both, _ = run(objects(), LEFT, RIGHT, model=Binding())
    ramp = np.round(np.linspace(0.3, 0.5, W)[None, :, None] * 65535).repeat(H, 0).repeat(3, 2)
    share = (LEFT / 255)[..., None]
    bare = np.round(ramp * (1 - share) + np.array((65535, 0, 0)) * share).astype(np.uint16)
    alone, _ = run(bare, LEFT, model=Binding())
    inside = LEFT > 0
    seen, _ = run(objects(), LEFT, model=Binding())
    error = np.abs(both.array[inside].astype(int) - alone.array[inside]).max()
    assert error < 0.003 * 65535
    # With the other as background the answer would be several times farther off.
    assert np.abs(seen.array[inside].astype(int) - alone.array[inside]).max() > 5 * error


def test_a_later_mask_recolours_what_an_earlier_one_left():
    """In an overlap the result is the second Transform of the first one's, and it is said."""
    picture = colours(H, W, 16)
    half, all_ = np.zeros((H, W), np.uint8), np.zeros((H, W), np.uint8)
    half[:, :50], all_[:, :90] = 255, 255
    both, outcome = run(picture, half, all_, model=Model(bent_lut()))
    first, _ = run(picture, half, model=Model(bent_lut()))
    second, _ = run(first.array, all_, model=Model(bent_lut()))
    assert (both.array == second.array).all()
    assert any("overlap in 35.7%" in warning for warning in outcome.warnings)


def test_masks_that_leave_no_background_are_harmonised_against_each_other():
    """Said as a warning; the picture is still done."""
    half = np.zeros((H, W), np.uint8)
    half[:, :70] = 255
    _, outcome = run(objects(), half, 255 - half)
    assert any("no background" in warning for warning in outcome.warnings)


def test_each_mask_has_figures_of_its_own():
    """Shares and changes by mask, the sum of them for the picture, JSON as it should be."""
    _, outcome = run(objects(), LEFT, RIGHT)
    names = [part["mask"] for part in outcome.parts]
    assert names == ["x_m1.png", "x_m2.png"]
    for part, mask in zip(outcome.parts, (LEFT, RIGHT), strict=True):
        assert part["foreground"] == pytest.approx(mask.mean() / 255, rel=1e-6)
        assert part["change_mean"] > 1
    union = np.maximum(LEFT, RIGHT).mean() / 255
    assert outcome.foreground == pytest.approx(union, rel=1e-6)
    means = [part["change_mean"] for part in outcome.parts]
    assert min(means) <= outcome.change_mean <= max(means)
    assert outcome.as_dict()["parts"][0]["mask"] == "x_m1.png"
    assert outcome.depth_in == 16 and outcome.width == W


def test_metrics_compare_the_finished_picture_under_all_masks():
    """Before is the source, after what was written, the foreground all of them."""
    from hzcli.metrics import measure

    picture, truth = colours(H, W, 8), colours(H, W, 8, seed=3)
    output, outcome = run(picture, LEFT, RIGHT, truth=Picture(truth), protocols=("standard",))
    mask = np.maximum(LEFT, RIGHT)
    sides = outcome.metrics["standard"]
    assert sides["before"] == pytest.approx(measure(picture, truth, mask))
    assert sides["after"] == pytest.approx(measure(output.array, truth, mask))


def test_an_empty_mask_among_several_is_named():
    with pytest.raises(MaskError, match=r"x_m2\.png is empty"):
        run(objects(), LEFT, np.zeros_like(LEFT))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(MaskError, match=r"x_m2\.png"):
        run(objects(), LEFT, RIGHT[1:])
    with pytest.raises(PictureError, match="truth"):
        run(objects(), LEFT, RIGHT, truth=Picture(objects()[1:]))


def test_memory_does_not_hold_the_picture_between_masks(monkeypatch):
    """What goes from mask to mask lies in a file, in bands of its tiles."""
    held = several._Held(Picture(colours(300, 50, 16)))
    rows = colours(300, 50, 16)
    for top in range(0, 300, 47):
        held.write(rows[top : top + 47])
    assert held._rows.shape[0] == 128
    window = Window(120, 290, 3, 41, held.size)
    assert (held.read(window) == rows[120:290, 3:41]).all()
    held.close()


def test_extended_colours_keep_what_counts_and_are_smooth():
    """A flat picture with a hole is flat; a ramp's hole stays between its ends."""
    hole = torch.ones(1, 1, 33, 47)
    hole[..., 10:22, 15:30] = 0
    flat = torch.full((1, 3, 33, 47), 0.37) * hole + 5 * (1 - hole)
    assert torch.allclose(extended(flat, hole), torch.tensor(0.37), atol=1e-6)
    ramp = torch.linspace(0, 1, 47).expand(1, 3, 33, 47)
    out = extended(torch.where(hole > 0, ramp, 9.0), hole)
    assert torch.equal(torch.where(hole > 0, out, ramp), ramp)
    assert out.min() >= 0 and out.max() <= 1
    # No step larger than twice that of the ramp would make of the hole.
    assert (out[..., 1:] - out[..., :-1]).abs().max() < 0.1


class Floats(Picture):
    """A float picture with alpha, as a reader of one gives it."""

    has_alpha = True

    def __init__(self, array, alpha):
        super().__init__(array)
        self.alpha = alpha

    def read_alpha(self, window):
        return self.alpha[window.top : window.bottom, window.left : window.right]


class Rows:
    """A writer of rows of any depth, with alpha."""

    path, wants_alpha = "out.tif", True

    def __init__(self, depth):
        self.depth, self.rows, self.alphas = depth, [], []

    def write(self, rows, alpha=None):
        self.rows.append(rows.copy())
        self.alphas.append(alpha.copy())

    array = property(lambda self: np.concatenate(self.rows))
    alpha = property(lambda self: np.concatenate(self.alphas))


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_floats_and_alpha_come_through_all_masks(depth):
    """What no mask touches keeps its value, above 1 as well; alpha is the source's."""
    picture = colours(H, W, 16 if depth == 32 else depth)
    alpha = picture[..., 1].copy()
    if depth == 32:
        picture = (picture / 65535 * 3 - 1).astype(np.float32)
        alpha = (alpha / 65535).astype(np.float32)
    writer = Rows(32 if depth == 32 else 16)
    masks = [Picture(mask) for mask in (LEFT, RIGHT)]
    several.harmonise(Floats(picture, alpha), masks, Model(bent_lut()), writer)
    scale = 257 if depth == 8 else 1
    outside = (LEFT == 0) & (RIGHT == 0)
    assert (writer.array[outside] == picture[outside] * writer.array.dtype.type(scale)).all()
    assert (writer.alpha == alpha * writer.array.dtype.type(scale)).all()
    assert (writer.array[~outside] != picture[~outside] * writer.array.dtype.type(scale)).any()


def test_the_output_profile_is_reached_once():
    """Steps between stay in the picture's own colours; the last one converts."""
    from hzcli.engine.colour import Colour
    from hzcli.io import profiles

    own, other = profiles.profile("adobergb"), profiles.profile("prophoto")
    masks = [Picture(mask) for mask in (LEFT, RIGHT)]
    picture = colours(H, W, 16)
    given = {"colour": Colour(own, other), "colour_between": Colour(own)}
    output, plain = Output(), Output()
    several.harmonise(Picture(picture), masks, Model(bent_lut()), output, **given)
    stream.harmonise(
        Picture(picture), masks[0], Model(bent_lut()), plain, colour=Colour(own, other)
    )
    outside = RIGHT == 0
    error = np.abs(output.array.astype(int) - plain.array)[outside]
    assert error.max() <= 1  # by way of floats, which keep what the picture's own codes cannot
    assert (output.array[outside & (LEFT == 0)] == plain.array[outside & (LEFT == 0)]).all()
