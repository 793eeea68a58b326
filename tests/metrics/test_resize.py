"""Resizing as the published scores do it: torch's interpolate, and Pillow's bicubic channel by
channel.
"""

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


def test_clips_is_the_middle_of_the_picture(picture):
    found = centre_crop(picture, 20)
    whole = np.asarray(Image.fromarray(picture).resize((32, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found, whole[:, 6:26])
    np.testing.assert_array_equal(centre_crop(picture.transpose(1, 0, 2), 20).shape, (20, 20, 3))
