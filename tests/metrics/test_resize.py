"""Resizing as in published scores: torch's interpolate, and Pillow's bicubic a channel."""

import numpy as np
import pytest
from PIL import Image

from tests.oracles import oracle
from vilg.metrics.resize import RESIZES, centre_crop

torch, F = oracle("torch"), oracle("torch.nn.functional")


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (41, 67, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [7, 41, 99])
def test_pytorch_fids_is_interpolate_without_antialiasing(side, picture):
    unit = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].double() / 255
    expected = 2 * F.interpolate(unit, size=(side, side), mode="bilinear", align_corners=False) - 1
    found = RESIZES["pytorch_fid"](picture, side)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=2e-6)


def test_clean_fids_is_antialiased_float_bicubic(picture):
    found = RESIZES["clean"](picture, 9)
    assert found.dtype == np.float32 and found.min() >= -1
    channel = np.asarray(
        Image.fromarray(picture[..., 1].astype(np.float32)).resize((9, 9), Image.Resampling.BICUBIC)
    )
    np.testing.assert_array_equal(found[..., 1], (channel.clip(0, 255) - 128) / 128)
    aliased = RESIZES["pytorch_fid"](picture, 9)
    assert (
        found.std() < 0.6 * aliased.std()
    )  # noise is averaged away where it is antialiased, and only there


@pytest.mark.parametrize("name", RESIZES)
def test_every_resize_gives_a_square_of_floats_about_from_minus_one_to_one(name, picture):
    for side in (9, 80):
        found = RESIZES[name](picture, side)
        assert found.dtype == np.float32 and found.shape == (side, side, 3)
        assert found.min() >= -1.01 and found.max() <= 1.01
    black, white = (RESIZES[name](np.full((5, 5, 3), level, np.uint8), 3) for level in (0, 255))
    np.testing.assert_allclose(black, -1, atol=1e-6)
    np.testing.assert_allclose(white, 1, atol=0.01)  # clean-fid's white is 127 / 128


def test_clips_is_the_middle_of_the_picture(picture):
    found = centre_crop(picture, 20)
    whole = np.asarray(Image.fromarray(picture).resize((32, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found, whole[:, 6:26])
    np.testing.assert_array_equal(centre_crop(picture.transpose(1, 0, 2), 20).shape, (20, 20, 3))
