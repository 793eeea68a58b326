"""The page of `vilg judge` in a real headless Chromium: keyboard, clicks, resuming, correcting,
both languages, files; and blindness.
"""

import json
import re
import shutil
import threading

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from vilg.run import cli
from vilg.run.judge.server import JudgeServer
from vilg.run.judge.study import read_study
from vilg.run.judge.votes import Votes

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
if CHROMIUM is None:
    pytest.skip("no chromium on PATH; .ci/run installs it where it can", allow_module_level=True)
from playwright.sync_api import expect, sync_playwright  # noqa: E402

MODELS = ("zebra_ours", "quokka_theirs")
PROMPTS = [
    '<b>a "red" ring</b> & \'more\'</script><script>document.title="broken"</script>',
    "一只戴帽子的猫",
    "a blue cube",
    "三个绿色的球",
]


def write_samples(place, tint: int) -> None:
    """Pictures that tell the model by their colour, with its name in their metadata, and
    samples.jsonl.
    """
    place.mkdir()
    lines = []
    for i, prompt in enumerate(PROMPTS):
        info = PngImagePlugin.PngInfo()
        info.add_text("model", place.name)
        Image.fromarray(np.full((8 + i, 8, 3), (tint, 40 * i, 90), np.uint8)).save(
            place / f"{i:05d}.png", pnginfo=info
        )
        lines.append(
            {
                "prompt": prompt,
                "file": f"{i:05d}.png",
                "seed": i,
                "category": "colour" if i % 2 else "count",
            }
        )
    (place / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def browser():
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        yield browser


@pytest.fixture
def study(tmp_path):
    """A made study of two models, in a directory whose name tells nothing."""
    for name, tint in zip(MODELS, (200, 50), strict=True):
        write_samples(tmp_path / name, tint)
    place = tmp_path / "s"
    assert (
        cli.main(
            [
                "judge",
                f"--samples={tmp_path / MODELS[0]},{tmp_path / MODELS[1]}",
                f"--out={place}",
                "--static",
                "--raters=2",
            ]
        )
        == 0
    )
    return place


@pytest.fixture
def address(study):
    """Where the study is served."""
    with JudgeServer(
        "127.0.0.1", 0, study / "public", Votes(study / "votes.sqlite", read_study(study))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.address
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser):
    """A page that fails the test for an error in it, and keeps what it asked for and what it
    showed.
    """
    with browser.new_context(locale="en-GB", accept_downloads=True) as context:
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.asked, page.seen, page.errors = [], [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on(
            "console",
            lambda message: page.errors.append(message.text) if message.type == "error" else None,
        )
        yield page
        page.seen.append(page.content())
        assert not page.errors
        assert all(
            url.startswith(("http://127.0.0.1:", "file://", "data:", "blob:")) for url in page.asked
        )


def begin(page, name: str) -> None:
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#rating:not([hidden])")


def on_the_left(page, study) -> str:
    """The model whose picture is on the left, told by its colour; the page must show both pictures,
    equally large.
    """
    page.evaluate(
        "Promise.all([...document.querySelectorAll('#pictures img')].map((i) => i.decode()))"
    )
    boxes = [frame.bounding_box() for frame in page.query_selector_all("#pictures .frame")]
    assert (
        len(boxes) == 2
        and boxes[0]["width"] == boxes[1]["width"] == boxes[0]["height"] == boxes[1]["height"]
    )
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    file = page.get_attribute("#pictures figure:first-child img", "src")
    return (
        MODELS[0] if np.asarray(Image.open(study / "public" / file))[0, 0, 0] == 200 else MODELS[1]
    )


def blind(page, study) -> None:
    """No model's name in what was shown, asked for, or lies in public/, nor what only the samples'
    directories say.
    """
    told = [
        *page.seen,
        *page.asked,
        *(str(p.relative_to(study)) for p in (study / "public").rglob("*")),
    ]
    told += [p.read_bytes().decode("latin-1") for p in (study / "public").rglob("*") if p.is_file()]
    for name in (*MODELS, "zebra", "quokka", "00000.png", "samples"):
        assert not [text for text in told if name in text], name
    for picture in (study / "public" / "items").iterdir():
        with Image.open(picture) as image:
            assert not image.info
    assert len({p.stat().st_mtime for p in (study / "public" / "items").iterdir()}) == 1


def test_keys_and_clicks_become_win_rates(page, study, address, capsys):
    """One rater by keyboard, who prefers the first model's alignment and calls fidelity equal,
    stopping midway; one by clicks, who always prefers the left picture's fidelity and the second
    model's alignment, and corrects a vote."""
    page.goto(address)
    begin(page, "键盘 Ann")
    prompts = []
    for i in range(4):
        expect(page.locator("#position")).to_have_text(f"{i + 1} of 4")
        prompts.append(page.inner_text("#texts dd"))
        page.seen.append(page.content())
        page.keyboard.press("1" if on_the_left(page, study) == MODELS[0] else "ArrowRight")
        page.keyboard.press("ArrowDown" if i % 2 else "2")
        page.keyboard.press("Enter")
        if i == 1:
            expect(page.locator("#position")).to_have_text("3 of 4")
            page.keyboard.press("1")  # of an item that is not finished
            page.reload()
            page.wait_for_selector("#rating:not([hidden])")
    page.wait_for_selector("#finished:not([hidden])")
    assert sorted(prompts) == sorted(PROMPTS) and page.title() == "Compare two pictures"
    page.click("#other")

    begin(page, "Bo")
    expect(page.locator("#position")).to_have_text("1 of 4")
    left, others = [], []
    for i in range(4):
        expect(page.locator("#position")).to_have_text(f"{i + 1} of 4")
        left.append(on_the_left(page, study))
        others.append(page.inner_text("#texts dd"))
        side = 1 if left[-1] == MODELS[0] else -1
        page.click(f"[data-question=alignment] [data-value='{side}']")
        page.click("#next", force=True)  # refused: a question is open
        expect(page.locator("#problem")).to_contain_text("every question")
        page.click("[data-question=fidelity] [data-value='0']")
        page.click("[data-question=fidelity] [data-value='-1']")
        page.click("#next")
    page.click("#correct")
    expect(page.locator("#position")).to_have_text("4 of 4")
    assert (
        page.get_attribute("[data-question=fidelity] [data-value='-1']", "aria-pressed") == "true"
    )
    page.click("[data-question=fidelity] [data-value='0']")
    page.click("#next")
    page.wait_for_selector("#finished:not([hidden])")
    assert sorted(others) == sorted(prompts)

    assert cli.main(["judge", f"--out={study}", "--report"]) == 0
    assert "2 of 2 raters finished, 16 votes" in " ".join(capsys.readouterr().out.split())
    report = json.loads((study / "report.json").read_text())
    (alignment,), (fidelity,) = (report["metrics"]["all"][q] for q in ("alignment", "fidelity"))
    assert alignment["system"] == MODELS[0] and alignment["against"] == MODELS[1]
    assert [alignment[k]["votes"] for k in ("win", "tie", "lose")] == [4, 0, 4]
    assert alignment["win_rate"] == 0.5 and alignment["ci95"] == [
        0.5,
        0.5,
    ]  # every prompt has one vote for each
    wins = left[:3].count(MODELS[0])
    assert [fidelity[k]["votes"] for k in ("win", "tie", "lose")] == [wins, 5, 3 - wins]
    assert (fidelity["prompts"], fidelity["raters"], fidelity["left"]) == (4, 2, 1)
    assert (
        sum(rows["alignment"][0]["votes"] for rows in report["metrics"]["category"].values()) == 8
    )
    blind(page, study)


def test_a_third_rater_and_a_dead_server_are_told(page, study, address):
    votes = Votes(study / "votes.sqlite", read_study(study))
    for rater in ("a", "b"):
        item = votes.study.items[0].id
        votes.merge(_file(study, {"study": votes.study.id, "rater": rater, "votes": [_vote(item)]}))
    page.goto(address)
    begin(page, "c")
    page.keyboard.press("1")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("this study has its 2 raters")
    expect(page.locator("#position")).to_have_text("1 of 4")
    page.errors = [e for e in page.errors if "403" not in e]  # Chromium's own line about it
    page.route("**/votes", lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("Failed to fetch")
    assert (
        page.get_attribute("[data-question=alignment] [data-value='-1']", "aria-pressed") == "true"
    )  # nothing is lost
    page.errors = [e for e in page.errors if "ERR_FAILED" not in e]


def _vote(item: str) -> dict:
    return {"item": item, "question": "alignment", "value": 0, "time": 1.0}


def _file(place, content: dict):
    (place / "v.json").write_text(json.dumps(content))
    return place / "v.json"


def test_files_work_without_a_server(page, study, tmp_path):
    """Opened from disk: votes stay in the browser over a reload, are downloaded, and come in by
    --import.
    """
    page.goto((study / "public" / "index.html").as_uri())
    begin(page, "Cy")
    for i in range(4):
        expect(page.locator("#position")).to_have_text(f"{i + 1} of 4")
        on_the_left(page, study)
        page.keyboard.press("1")
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        if i == 0:
            expect(page.locator("#position")).to_have_text("2 of 4")
            page.reload()
            page.wait_for_selector("#rating:not([hidden])")
            expect(page.locator("#position")).to_have_text("2 of 4")
    page.wait_for_selector("#finished:not([hidden])")
    with page.expect_download() as download:
        page.click("#finished .download")
    assert re.fullmatch(r"votes-[0-9a-f]{8}-Cy\.json", download.value.suggested_filename)
    download.value.save_as(tmp_path / "votes.json")
    for _ in range(2):  # twice is once
        assert (
            cli.main(["judge", f"--out={study}", f"--import={tmp_path / 'votes.json'}", "--report"])
            == 0
        )
    (fidelity,) = json.loads((study / "report.json").read_text())["metrics"]["all"]["fidelity"]
    assert (fidelity["votes"], fidelity["left"]) == (4, 0)
    blind(page, study)


def test_chinese_a_phone_and_who_uses_no_mouse(page, study, address):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(address)
    assert page.evaluate("document.activeElement.id") == "name"
    page.click("#switch")
    assert (
        page.evaluate("document.documentElement.lang") == "zh-Hans" and page.title() == "图像对比"
    )
    begin(page, "丁")
    expect(page.locator("#position")).to_have_text("第 1 题，共 4 题")
    assert "没有差别" in page.inner_text("#questions")
    on_the_left(page, study)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for element in page.query_selector_all("button, input, img, progress, fieldset"):
        if element.is_visible():
            named = (
                "(e) => e.alt || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
                " || e.innerText || e.labels?.[0]?.innerText"
            )
            assert element.evaluate(named), element.evaluate("(e) => e.outerHTML")
    page.focus("[data-question=alignment] button:nth-child(2)")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # presses the button that has the focus: the same question's third
    assert (
        page.get_attribute("[data-question=alignment] [data-value='1']", "aria-pressed") == "true"
    )
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    expect(page.locator("#position")).to_contain_text("2")
    page.keyboard.press("Backspace")
    expect(page.locator("#position")).to_contain_text("1")
    page.click("#pictures figure:first-child .frame")
    assert page.evaluate("document.querySelector('#large').open")
    page.keyboard.press("1")  # not while a picture is enlarged
    page.keyboard.press("Escape")
    assert (
        page.get_attribute("[data-question=alignment] [data-value='1']", "aria-pressed") == "true"
    )
    page.keyboard.press("Enter")  # though the picture has the focus again: the item is complete
    expect(page.locator("#position")).to_contain_text("2")
