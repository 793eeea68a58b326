"""`vilg sample --trace`: moments of sampling that end in the picture, which stays as it was."""

import numpy as np
import pytest
from PIL import Image

import vilg
from tests.conftest import tiny_diffusion
from vilg.run import cli
from vilg.types import UserError
from vilg.workdir.trace import GREY, hide, moments, write_trace
from vilg.workdir.training import train


def opened(file):
    with Image.open(file) as image:
        return np.asarray(image)


def test_moments_are_evenly_spaced_and_end_at_the_end():
    assert moments(8, 50) == [1, 8, 15, 22, 29, 36, 43, 50]
    assert moments(4, 4) == [1, 2, 3, 4] and moments(2, 9) == [1, 9]
    for number, steps in ((1, 9), (10, 9), (3, 2)):
        with pytest.raises(UserError, match=f"trace={number}: must be from 2 to {steps}"):
            moments(number, steps)


def test_cells_that_are_not_known_are_grey():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    known = np.array([[[True, False]], [[False, True]]])
    hidden = hide(images, known)
    np.testing.assert_array_equal(hidden[0, :, :2], images[0, :, :2])
    np.testing.assert_array_equal(hidden[1, :, 2:], images[1, :, 2:])
    assert (hidden[0, :, 2:] == GREY).all() and (hidden[1, :, :2] == GREY).all()


@pytest.fixture(scope="module")
def absorbing_run(codec_run, tmp_path_factory):
    """A diffusion run on ids, of one update."""
    place = tmp_path_factory.mktemp("absorbing") / "run"
    process = {"name": "absorbing", "masking": {"name": "sine"}}
    config = tiny_diffusion(
        codec__workdir=str(codec_run), generator__process=process, training__steps=1
    )
    train(config, place, quiet=True)
    return place


@pytest.mark.parametrize("kind", ["run", "diffusion_run", "absorbing_run"])
def test_the_trace_ends_in_the_same_picture(kind, request):
    run = vilg.load(request.getfixturevalue(kind))
    options = {} if kind == "run" else {"steps": 6}
    prompts = ["a red circle", "一个蓝色正方形"]
    plain = run.sample(prompts, seed=3, **options)
    traced = run.sample(prompts, seed=3, trace=4, **options)
    for before, after in zip(plain, traced, strict=True):
        assert before.trace == () and len(after.trace) == 4
        np.testing.assert_array_equal(before.array, after.array)
        frames = [np.asarray(frame) for frame in after.trace]
        np.testing.assert_array_equal(frames[-1], after.array)
        assert all((a != b).any() for a, b in zip(frames, frames[1:], strict=False))
    if kind != "diffusion_run":
        shares = [np.mean((np.asarray(f) == GREY).all(-1)) for f in traced[0].trace]
        assert shares == sorted(shares, reverse=True) and shares[0] > 0.5 > shares[-1]
    with pytest.raises(UserError, match="trace=1000: must be from 2 to"):
        run.sample("x", trace=1000, **options)


def test_the_command_writes_a_strip_and_an_animation(diffusion_run, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["sample", f"--workdir={diffusion_run}", "--prompt=a red circle", "--num=2"]
    assert cli.main([*argv, "--steps=4", "--trace=3", f"--out={out}", "--quiet"]) == 0
    side = opened(out / "00000.png").shape[1] * 3  # 32 pixels are enlarged to 96
    strip = opened(out / "trace.png")
    assert strip.shape == (2 * side + 2, 3 * side + 4, 3)
    picture = opened(out / "00001.png").repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(strip[-side:, -side:], picture)
    with Image.open(out / "trace.gif") as animation:
        assert animation.n_frames == 3 and animation.size == (2 * side + 2, side)
        animation.seek(2)
        assert animation.info["duration"] == 1500, "the picture itself stays longer"
    capsys.readouterr()
    assert cli.main([*argv, "--steps=4", "--trace=-1", f"--out={out}"]) == 2
    assert "trace=-1: must be at least 2, or 0 for none" in capsys.readouterr().err


def test_at_most_sixteen_pictures_are_shown(tmp_path):
    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(20)]
    write_trace(tmp_path, [(frame, frame) for frame in frames])
    assert opened(tmp_path / "trace.png").shape == (16 * 96 + 15 * 2, 2 * 96 + 2, 3)
