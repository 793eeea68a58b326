"""Draws `vilg/packages.svg`: the packages in import order, read from the contract of import-linter
in pyproject.toml. `UPDATE_GOLDENS=1 pytest tests/test_pages.py` writes it.
"""

import tomllib
from html import escape
from pathlib import Path

WIDTH, MARGIN, LEFT, ROW, GAP = 520, 12, 46, 30, 6
FONT = "ui-sans-serif,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
# What each package is for; a package without a phrase here is an error.
WHAT = {
    "run": "the verbs: what a person types",
    "api": "vilg.load: a run as a Python object",
    "planning": "what a program will cost on absent chips",
    "workdir": "a run's directory, and a run in memory",
    "stepwise_program": "sampling one step at a time",
    "program": "compiled functions",
    "frozen": "networks not trained",
    "overrides": "--config.a.b=c",
    "fit": "shapes, devices",
    "sections": "the fields that a config may have",
    "field_help": "help of a field",
    "experiment": "frozen objects made from a config",
    "evals": "evaluators: numbers about a model",
    "metrics": "scores as pure functions",
    "report": "pictures and pages for people",
    "training": "the loop, optimizer, checkpoints, log",
    "data": "captioned pictures in: sources, text, loader",
    "generators": "models: pictures from text, and back",
    "processes": "noise processes of diffusion",
    "codecs": "pixels to codes and back",
    "nn": "layers: attention, transformer, U-Net",
    "compiler": "flags, warnings",
    "parallel": "layouts, mesh",
    "experiment_file": "reads an experiment file",
    "packaged": "experiments inside",
    "program_cache": "kept on disk",
    "config": "section to class",
    "paths": "local and gs://",
    "types": "protocols, shapes, errors",
    "stage": "what a command does now",
}
# The colour of a band of packages begins with the package named.
BANDS = {
    "run": "verb",
    "planning": "run",
    "stepwise_program": "experiment",
    "evals": "measure",
    "training": "train",
    "generators": "model",
    "parallel": "base",
}
STYLE = """
.page{fill:#ffffff}.what,.side{fill:#4a5260}.name{fill:#14181f}
.line{stroke:#8a93a3}.tip{fill:#8a93a3}
.verb{fill:#fde2d2}.run{fill:#fbeec6}.experiment{fill:#e3f1cf}.measure{fill:#d2eee3}
.train{fill:#d3e8f8}.model{fill:#dfe0fa}.base{fill:#e8e8ec}
@media (prefers-color-scheme:dark){
.page{fill:#0d1117}.what,.side{fill:#aeb7c4}.name{fill:#f0f3f8}
.line{stroke:#6d7686}.tip{fill:#6d7686}
.verb{fill:#5a3320}.run{fill:#544417}.experiment{fill:#33491a}.measure{fill:#17463a}
.train{fill:#173f5c}.model{fill:#33346b}.base{fill:#2e323a}}
"""


def layers(pyproject: str = "pyproject.toml") -> list[list[str]]:
    """The packages of each layer, from the one that may import everything to the one that imports
    nothing.
    """
    contract = tomllib.loads(Path(pyproject).read_text())["tool"]["importlinter"]["contracts"][0]
    return [
        [package.strip().removeprefix("vilg.") for package in layer.split("|")]
        for layer in contract["layers"]
    ]


def picture(rows: list[list[str]]) -> str:
    """The SVG of the rows."""
    height = 2 * MARGIN + len(rows) * ROW + (len(rows) - 1) * GAP
    top, bottom, middle = MARGIN + 4, height - MARGIN - 4, MARGIN + 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" aria-label="The packages of vilg; each imports only'
        ' packages below it">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>',
        f'<line class="line" x1="{middle}" y1="{top}" x2="{middle}" y2="{bottom - 8}"'
        ' stroke-width="2"/>',
        f'<path class="tip" d="M{middle - 6} {bottom - 10}h12l-6 11z"/>',
        f'<text class="side" transform="translate({middle + 16} {height / 2}) rotate(-90)"'
        f' text-anchor="middle" font-size="12.5" font-family="{FONT}">each package imports only'
        " packages below it</text>",
    ]
    unknown = {package for row in rows for package in row} - set(WHAT)
    if unknown:
        raise ValueError(f"say in tests/draw_packages.py:WHAT what {unknown} are for")
    band = ""
    for i, row in enumerate(rows):
        band = BANDS.get(row[0], band)
        width = (WIDTH - LEFT - MARGIN - GAP * (len(row) - 1)) / len(row)
        for k, package in enumerate(row):
            x, y = LEFT + k * (width + GAP), MARGIN + i * (ROW + GAP)
            out.append(
                f'<rect class="{band}" x="{x:g}" y="{y}" width="{width:g}" height="{ROW}" rx="6"/>'
            )
            out.append(
                f'<text class="name" x="{x + 10:g}" y="{y + 20}" font-size="14" font-weight="600"'
                f' font-family="{MONO}">{escape(package)}</text>'
            )
            # the phrases of whole rows stand in one column, those of halves at the right
            place = f'x="{LEFT + 158}"'
            if len(row) > 1:
                place = f'x="{x + width - 10:g}" text-anchor="end"'
            if len(row) > 2:
                continue  # there is no room for phrases
            out.append(
                f'<text class="what" {place} y="{y + 19.5}" font-size="13"'
                f' font-family="{FONT}">{escape(WHAT[package])}</text>'
            )
    return "\n".join([*out, "</svg>", ""])
