"""The report page: one file that needs no other file and shows everything that it was given."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from vilg.data.scenes.captions import describe
from vilg.data.scenes.render import render
from vilg.data.scenes.scorer import Score
from vilg.data.scenes.source import Synthetic, cell
from vilg.evals.scenes import Trial, summarize
from vilg.report.page import QUICKSTART, write_page
from vilg.report.score_tables import CODEC, MEASURES, PARTS
from vilg.report.trial_cards import CELLS, GeneratorView

SOURCE = Synthetic(max_objects=2, groups=0.0, snap=4, backgrounds=("plain",))
ALL_RIGHT = dict.fromkeys(
    ("readable", "count", "colour", "shape", "size", "colour_and_shape", "everything"), True
)
LINES = [
    {"step": s, "time": 1.0, "loss": 9.0 / s, "psnr": 20.0, "step_seconds": 0.5}
    for s in (1, 10, 20)
]


def _trials(captions: bool, right: bool = True) -> list[Trial]:
    out = []
    for name, objects in (("single_object", 1), ("two_objects", 2)):
        for i, scene in enumerate(cell(SOURCE, objects, "seen", 4)):
            language = ("zh", "en")[i % 2]
            text = describe(scene, language, i).text
            parts = (
                ALL_RIGHT
                if right
                else ALL_RIGHT | {"colour": False, "colour_and_shape": False, "everything": False}
            )
            out.append(Trial(name, "sample", scene, language, text, render(scene), right, parts))
            if captions:
                out.append(Trial(name, "caption", scene, language, text, render(scene), True, {}))
    return out


def _write(tmp_path, views, **changes) -> str:
    scores = {v.name: summarize(v.trials) for v in views}
    codec = {"psnr": 27.0, "codebook_usage": 0.5, "two_objects": 1.0}
    seconds = {"codec": 10.0, "autoregressive": 20.0}
    report = {
        "scores": scores,
        "codec": codec,
        "seconds": seconds,
        "cpu_seconds": seconds,
        "snapped": True,
        "commit": "c0ffee",
    }
    pictures = np.stack([v.image for v in views[0].trials[:3]])
    given = {
        "title": "t",
        "intro": "i",
        "reconstructions": (pictures, 255 - pictures),
        "curves": {"codec": LINES},
    } | changes
    path = write_page(
        tmp_path / "report", report | {"versions": {"jax": "0.10.2"}}, generators=views, **given
    )
    assert path == tmp_path / "report" / "index.html"
    return path.read_text(encoding="utf-8")


def test_every_label_is_of_something_that_the_evaluator_measures():
    trials = _trials(True)
    scores = summarize(trials)
    assert set(MEASURES) <= set(scores)
    assert {t.cell for t in trials} <= set(CELLS)
    assert set(PARTS) == {field.name for field in dataclasses.fields(Score)} - {"reading"}
    for target in QUICKSTART:
        name, _, key = target.partition("/")
        assert key in (CODEC if name == "codec" else MEASURES)


def _section(page: str, start: str, end: str) -> str:
    return page[page.index(f'id="{start}"') : page.index(f'id="{end}"')]


def test_the_page_needs_nothing_outside_itself(tmp_path):
    page = _write(tmp_path, [GeneratorView("autoregressive", _trials(True))], config={"seed": 0})
    assert len(page.encode()) < 4_000_000
    assert (
        "http://" not in page
        and "https://" not in page
        and "<script" not in page
        and "<link" not in page
        and "@import" not in page
    )
    for address in re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page) + re.findall(
        r"url\(([^)]*)\)", page
    ):
        assert address.startswith(("data:image/png;base64,", "#")), address[:80]


def test_every_picture_is_a_png_of_what_was_given(tmp_path):
    trials = _trials(False)
    page = _write(tmp_path, [GeneratorView("autoregressive", trials)])
    decoded = []
    for text in re.findall(r'src="data:image/png;base64,([^"]*)"', page):
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            assert image.format == "PNG"
            decoded.append(np.asarray(image))
    assert len(decoded) == 2 * 3 + len(trials)
    assert all(any(np.array_equal(t.image, d) for d in decoded[6:]) for t in trials)
    assert np.array_equal(decoded[1], 255 - decoded[0])


def test_every_prompt_its_twin_and_its_verdict_are_shown(tmp_path):
    trials = _trials(True, right=False)
    page = _write(tmp_path, [GeneratorView("autoregressive", trials)])
    samples, captions = _section(page, "samples", "captions"), _section(page, "captions", "curves")
    for t in trials:
        assert t.prompt in (samples if t.kind == "sample" else captions)
        assert describe(t.scene, "en" if t.language == "zh" else "zh").text in samples
        assert describe(t.scene, t.language).text in captions
    assert samples.count("✗&nbsp;wrong") == 8 and samples.count(": colour</span>") == 8
    assert captions.count("✓&nbsp;right") == 8 and "✗" not in captions


def test_html_in_prompts_titles_and_captions_is_escaped(tmp_path):
    evil = '<script>alert("1")</script>'
    trials = [dataclasses.replace(t, prompt=evil) for t in _trials(True)[:2]]
    curves = {evil: LINES}
    page = _write(
        tmp_path,
        [GeneratorView("<b>", trials)],
        title=evil,
        intro=evil,
        config={"name": evil},
        curves=curves,
    )
    assert "<script" not in page and "<b>" not in page
    assert page.count("&lt;script&gt;") > 6


def test_targets_are_marked_and_intervals_shown(tmp_path):
    trials = [
        dataclasses.replace(t, right=t.kind == "sample" or i % 4 == 1)
        for i, t in enumerate(_trials(True)[:8])
    ]
    scores = summarize(trials)
    page = _write(tmp_path, [GeneratorView("autoregressive", trials)])
    table = _section(page, "scores", "costs")
    low, high = scores["ci95"]["captions_exact"]
    assert "50.0 %" in table and f"{100 * low:.1f}–{100 * high:.1f}, n = 4" in table
    assert table.count("✓ aim met") == 1  # the samples
    # captions and codebook usage miss their targets; two objects after the codec meet theirs
    assert table.count("✗ not met") == 2 and table.count("✓ met") == 1
    assert "centres are snapped" in page and "10 % of the pairs were withheld" in page


@pytest.mark.parametrize("both", [False, True])
def test_generators_stand_side_by_side_under_one_prompt(tmp_path, both):
    views = [
        GeneratorView("autoregressive", _trials(True)),
        GeneratorView("diffusion", _trials(both, right=False)[:-1] if not both else _trials(True)),
    ]
    page = _write(tmp_path, views)
    samples, captions = _section(page, "samples", "captions"), _section(page, "captions", "curves")
    assert samples.count('<li class="card">') == 8
    assert samples.count('alt="Sample of autoregressive') == 8 and samples.count(
        'alt="Sample of diffusion'
    ) == (8 if both else 7)
    assert ("not sampled" in samples) != both
    assert ("Without captions: diffusion." in captions) != both
    assert captions.count("<figure") == 0 and captions.count('<li class="row">') == 8


def test_without_a_captioner_the_page_says_so(tmp_path):
    page = _write(tmp_path, [GeneratorView("autoregressive", _trials(False))])
    captions = _section(page, "captions", "curves")
    assert "Without captions: autoregressive." in captions and "<img" not in captions
    assert "Caption exactly right" not in page


def test_failures_beyond_the_first_are_shown_as_chosen(tmp_path):
    trials = [t for t in _trials(False) if t.cell == "single_object"]
    trials[3] = dataclasses.replace(trials[3], right=False, parts=ALL_RIGHT | {"readable": False})
    samples = _section(
        _write(tmp_path, [GeneratorView("a", trials)], shown=2), "samples", "captions"
    )
    assert samples.count('<li class="card">') == 3 and "3 of 4 right" in samples
    chosen = samples[samples.index("chosen because") :]
    assert (
        trials[3].prompt in chosen
        and "cannot be read" in chosen
        and trials[2].prompt not in samples
    )


def test_a_loss_is_drawn_against_steps_and_cpu_seconds(tmp_path):
    page = _write(tmp_path, [GeneratorView("a", _trials(False))])
    assert page.count("<svg") == 3  # loss against steps and against CPU-seconds, PSNR
    for title in (
        "codec: loss against step",
        "codec: loss against CPU-seconds",
        "codec: PSNR, dB against step",
    ):
        assert f"<figcaption>{title}</figcaption>" in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
