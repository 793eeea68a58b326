"""Sampling a diffusion run: options, negative prompts, styles, sizes, variation, masks, experts on
the host; and bad input.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from tests.conftest import tiny_config, tiny_diffusion
from vilg.data.styles import STYLES, find_style, styled
from vilg.experiment import build_experiment
from vilg.processes.samplers import SAMPLERS
from vilg.run import cli
from vilg.run.sample import OPTIONS
from vilg.run.terminal.progress import Evaluations
from vilg.types import Stepwise, UserError
from vilg.workdir.keys import sample_keys
from vilg.workdir.painting import Painting, fit_to, prepare
from vilg.workdir.request import controls_of
from vilg.workdir.session import open_session

PROMPT = "a red ring"


@pytest.fixture(scope="module")
def session(diffusion_run):
    return open_session(str(diffusion_run), ema=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A picture that is no square, and a mask of it: one white pixel in its middle, and its lower
    quarter.
    """
    out = tmp_path_factory.mktemp("pictures")
    ramp = np.linspace(0, 255, 40 * 32).reshape(32, 40)
    Image.fromarray(np.stack([ramp, ramp[::-1], 255 - ramp], -1).astype(np.uint8)).save(
        out / "init.png"
    )
    mask = np.zeros((32, 40), np.uint8)
    mask[24:], mask[10, 19] = 255, 255
    Image.fromarray(mask).save(out / "mask.png")
    Image.fromarray(mask[:8]).save(out / "small.png")
    Image.fromarray(mask * 0).save(out / "black.png")
    return out


def drawn(session, prompts, controls, seeds=None, grid=None, **inputs):
    """Codes, before the codec quantizes what differs little."""
    ids = np.stack([session.text_ids(p, "en")[0] for p in prompts])
    keys = sample_keys(seeds or [0] * len(prompts), [p.encode() for p in prompts])
    if not isinstance(session.experiment.model, Stepwise):
        return session._drawn(ids, keys, controls)
    return session._drawn_stepwise({"text": ids, **inputs}, keys, controls, grid, None, 0)[0]


def sample(run, out, *options):
    return cli.main(
        ["sample", f"--workdir={run}", f"--prompt={PROMPT}", f"--out={out}", "--quiet", *options]
    )


def test_one_program_serves_every_number_of_steps_and_weight_of_guidance(session):
    def programs(**given):
        drawn(session, [PROMPT], session.experiment.model.controls(given))
        return session.stepwise.advance._cache_size()

    before = programs(steps=3, guidance=2.0)
    assert programs(steps=5, guidance=4.0, rescale=0.7) == before
    assert programs(steps=3, guidance=1.0) == before + 1  # no negative prompt beside each


def test_the_options_are_the_union_of_all_controls():
    fields = set()
    for config in (tiny_config(), tiny_diffusion()):
        fields |= {f.name for f in dataclasses.fields(build_experiment(config).controls)}
    assert set(OPTIONS) == fields - {"first"}


def test_options_go_over_the_configs_and_not_in_their_place():
    experiment = build_experiment(tiny_diffusion())
    found = controls_of(experiment, {"eta": 0.5})
    assert (found.guidance, found.steps, found.eta) == (2.0, 3, 0.5)
    assert controls_of(experiment, {"guidance": 1.0}).steps == 3
    with pytest.raises(UserError, match="top_k=3: a diffusion generator has no such option"):
        controls_of(experiment, {"top_k": 3})
    with pytest.raises(UserError, match="steps=3: .* has no such option"):
        controls_of(build_experiment(tiny_config()), {"steps": 3})


def test_a_picture_is_its_prompts_and_seeds_alone(session):
    controls = session.experiment.controls
    alone = drawn(session, [PROMPT], controls, [3])
    among = drawn(session, ["x", "y", PROMPT, PROMPT], controls, [0, 1, 3, 4])
    np.testing.assert_array_equal(among[2], alone[0])
    assert np.abs(among[3] - alone[0]).max() > 0.1


def test_a_negative_prompt_changes_pictures_and_the_empty_one_does_not(session):
    controls = session.experiment.controls

    def ids(text):
        return session.text_ids(text, "en")[0][None]

    plain = drawn(session, [PROMPT], controls)
    np.testing.assert_array_equal(drawn(session, [PROMPT], controls, negative=ids("")), plain)
    assert (
        np.abs(drawn(session, [PROMPT], controls, negative=ids("a blue square")) - plain).max()
        > 1e-3
    )


def test_stepwise_sampling_is_the_one_program(session):
    controls = session.experiment.controls
    ids, keys = session.text_ids(PROMPT, "en")[0], sample_keys([0], [PROMPT.encode()])
    both = [np.repeat(a, 8, 0) for a in (ids[None], keys)]
    whole = session.program.call("sample", controls)(
        session.params, both[0], jax.random.wrap_key_data(both[1])
    )
    np.testing.assert_allclose(drawn(session, [PROMPT], controls)[0], whole[0], atol=1e-5)
    assert len(session.experiment.model.sampling_schedule(controls).runs) == 2


def test_experts_swapped_in_from_the_host_paint_the_same(session, diffusion_run):
    swapped = open_session(str(diffusion_run), ema=True, swap=True)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(swapped.params))
    controls = session.experiment.controls
    np.testing.assert_allclose(
        drawn(swapped, [PROMPT], controls), drawn(session, [PROMPT], controls), atol=1e-5
    )


def test_strength_is_how_far_a_variation_goes(session, pictures):
    init = prepare(Painting(init=str(pictures / "init.png")), session).inputs["init"]
    near, far = (
        np.abs(
            drawn(session, [PROMPT], controls_of(session.experiment, {"first": s}), init=init)
            - init
        ).mean()
        for s in (0.01, 1.0)
    )
    assert near < 0.3 * far
    assert (
        Painting(init="x").first == {"first": 0.7}
        and Painting(init="x", mask="y").first == {"first": 1.0}
        and not Painting().first
    )


def test_masked_codes_are_kept_exactly(session, pictures):
    canvas = prepare(Painting(str(pictures / "init.png"), str(pictures / "mask.png")), session)
    mask, init = canvas.inputs["mask"][0] > 0, canvas.inputs["init"]
    assert mask.sum() == 8 * 2 + 1 and mask[2, 3]
    codes = drawn(
        session, [PROMPT], session.experiment.controls, init=init, mask=canvas.inputs["mask"]
    )
    np.testing.assert_array_equal(codes[0][~mask], init[0][~mask])
    assert np.abs(codes[0][mask] - init[0][mask]).max(-1).min() > 0


def test_every_sampler_ends_in_the_clean_prediction_which_a_mask_replaces():
    experiment = build_experiment(tiny_diffusion())
    for sampler in SAMPLERS:
        plan = experiment.model.sampling_schedule(controls_of(experiment, {"sampler": sampler}))
        assert plan.rows["matrix"][-1][0].tolist() == [0, 0, 1, 0, 0] and not np.any(
            plan.rows.get("noise", np.zeros(1))[-1]
        )


def test_what_is_black_is_the_reconstruction_or_with_paste_the_original(
    session, pictures, diffusion_run, tmp_path
):
    files = [f"--init={pictures / 'init.png'}", f"--mask={pictures / 'mask.png'}"]
    assert sample(diffusion_run, tmp_path / "a", *files) == 0
    assert sample(diffusion_run, tmp_path / "b", *files, "--paste") == 0
    start = fit_to(
        np.asarray(Image.open(pictures / "init.png")), (32, 32), Image.Resampling.LANCZOS
    )
    copy, pasted = (np.asarray(Image.open(tmp_path / n / "00000.png")) for n in "ab")
    again = session.pictures(session.codes(start[None]))[0]
    cells = np.zeros((32, 32), bool)
    cells[24:], cells[8:12, 12:16] = True, True
    np.testing.assert_array_equal(copy[~cells], again[~cells])
    white = np.zeros((32, 32), bool)
    white[24:], white[10, 15] = True, True
    np.testing.assert_array_equal(pasted[~white], start[~white])
    line = json.loads((tmp_path / "b" / "samples.jsonl").read_text())
    assert (
        line["paste"]
        and line["controls"]["first"] == 1.0
        and line["mask"] == str(pictures / "mask.png")
    )


def test_other_sizes_and_styles_are_written_with_what_made_them(diffusion_run, tmp_path):
    options = [
        "--height=24",
        "--width=40",
        "--style=水彩",
        "--negative=blue",
        "--sampler=heun",
        "--steps=2",
        "--num=2",
    ]
    assert sample(diffusion_run, tmp_path, *options) == 0
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [np.asarray(Image.open(tmp_path / m["file"])).shape for m in lines] == [(24, 40, 3)] * 2
    assert (
        lines[0]["prompt"] == PROMPT
        and lines[0]["style"] == "水彩"
        and lines[0]["negative"] == "blue"
        and lines[0]["height"] == 24
    )
    assert lines[0]["controls"]["sampler"] == "heun" and lines[0]["controls"]["guidance"] == 2.0


def test_a_style_adds_words_of_the_prompts_language(capsys):
    assert styled("一只猫。", "zh", STYLES["油画"]) == "一只猫，油画，厚重的笔触"
    assert styled("a cat.", "en", find_style("oil")) == "a cat, oil painting, thick brush strokes"
    for style in STYLES.values():
        assert set(style.words) == {"zh", "en"}
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sample", "--style=list"])
    assert stopped.value.code == 0 and capsys.readouterr().out.count("\n") == len(STYLES)


def test_progress_counts_evaluations(session, capsys, monkeypatch):
    seen = []
    session.sample([PROMPT], session.experiment.controls, watch=lambda *args: seen.append(args))
    assert seen == [(1, 3, 8), (2, 3, 8), (3, 3, 8)]
    monkeypatch.setattr("vilg.run.terminal.progress.EVERY", -1.0)
    with Evaluations("sample", quiet=False) as watch:
        for done in (1, 2, 3):
            watch(done, 3, 8)
    assert (
        capsys.readouterr()
        .err.splitlines()[0]
        .startswith("sample 2/3 evaluations of 8 pictures  ETA")
    )


@pytest.mark.parametrize("line", ["not json", '{"a": 1}', "[3]", '{"file": 3}'])
def test_somebody_elses_list_is_refused_before_anything_is_drawn(line, tmp_path, capsys):
    (tmp_path / "samples.jsonl").write_text(f'{{"file": "00000.png"}}\n{line}\n')
    (tmp_path / "00000.png").write_bytes(b"mine")
    assert sample("nowhere", tmp_path) == 2
    assert (
        "line 2 of its samples.jsonl is not of `vilg sample`; give another --out"
        in capsys.readouterr().err
    )
    assert (tmp_path / "00000.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--top_k=3"], "top_k=3: a diffusion generator has no such option"),
        (["--steps=0"], "steps=0: must be at least 1"),
        (["--steps=2000"], "steps=2000: must be from 1 to 1000"),
        (["--sampler=dimm"], "sampler='dimm': did you mean 'ddim'?"),
        (
            ["--negative=blue", "--guidance=1"],
            "negative='blue': guidance=1 pushes away from nothing",
        ),
        (["--negative="], "negative='': is empty"),
        (["--negative=\udcff"], "is not UTF-8"),
        (["--style=像素"], "style='像素': did you mean '像素风格'?"),
        (
            ["--height=30"],
            (
                "height=30: must be a multiple of 4 pixels (the codec's factor x the denoiser's);"
                " give 28 or 32"
            ),
        ),
        (
            ["--width=-8"],
            (
                "width=-8: must be a multiple of 4 pixels (the codec's factor x the denoiser's);"
                " give 4"
            ),
        ),
        (["--strength=0.5"], "strength=0.5: needs --init=IMAGE"),
        (["--mask=M"], "needs --init=IMAGE"),
        (["--init=I", "--paste"], "paste=True: needs --mask=IMAGE"),
        (["--init=I", "--strength=0"], "strength=0.0: must lie in (0, 1]"),
        (["--init=I", "--strength=nan"], "strength=nan: must lie in (0, 1]"),
        (["--init=I", "--strength=0.002"], "steps=3: must be from 1 to 2, for the 2 timesteps"),
        (["--init=nowhere.png"], "init='nowhere.png': cannot be read"),
        (["--init=README.md"], "init='README.md': image cannot be decoded"),
        (
            ["--init=I", "--strength=0.3", "--last=0.5"],
            "strength=0.3: must be above last=0.5, where sampling ends; give more, or --last=0",
        ),
        (["--init=I", "--mask=SMALL"], "is 40x8 pixels, init is 40x32"),
        (["--init=I", "--mask=BLACK"], "is all black, so nothing is painted anew"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_lost(
    options, words, diffusion_run, pictures, tmp_path, capsys
):
    files = {"=I": "init", "=M": "mask", "=SMALL": "small", "=BLACK": "black"}
    options = [
        (
            o.split("=")[0] + f"={pictures / files['=' + o.split('=')[1]]}.png"
            if "=" + o.split("=")[-1] in files
            else o
        )
        for o in options
    ]
    (tmp_path / "samples.jsonl").write_text("")
    assert sample(diffusion_run, tmp_path, *options) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "Traceback" not in said and "\n" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["samples.jsonl"]
