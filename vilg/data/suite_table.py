"""The table of prompt suites: the files that their authors published, their columns, their licences
and where to get them. vilg contains no suite; suites.py reads them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vilg.data.prompts import Prompt
from vilg.data.records import LANGUAGES
from vilg.data.scenes.captions import WORDINGS, describe, kind_of
from vilg.data.scenes.scene import Scene
from vilg.data.scenes.skills import CATEGORIES, draw_scenes
from vilg.data.scenes.source import Synthetic

CATEGORY = ("category", "类别")  # names of a column of categories
# The names that DrawBench and ERNIE-ViLG 2.0 give these categories in English; "Simple", "View" and
# "Style" are vilg's.
VILG_300 = {
    "颜色": "Colors",
    "计数": "Counting",
    "矛盾": "Conflicting",
    "描述": "Descriptions",
    "位置": "Positional",
    "加里·马库斯等人。": "Gary Marcus et al.",
    "DALL-E图像生成器": "DALL-E",
    "Reddit论坛": "Reddit",
    "地理类": "Geography",
    "多物+属性描述+关系描述": "Complex",
    "反事实": "Counterfactual",
    "单物+属性描述": "Simple",
    "拟人化动物/卡通形象": "Cartoon",
    "不同视角": "View",
    "不同风格": "Style",
    "不同时间/场景": "Scene",
}
COMPBENCH = (
    "color",
    "shape",
    "texture",
    "spatial",
    "3d_spatial",
    "non_spatial",
    "numeracy",
    "complex",
)


@dataclass(frozen=True)
class Suite:
    """The files and the columns of a suite."""

    # each file by its possible names; the first name that exists is read
    files: tuple[tuple[str, ...], ...]
    # language -> possible names of its column of prompts, in any case
    columns: Mapping[str, tuple[str, ...]]
    where: str  # where to get the files
    license: str
    prompts: int  # how many were published, in each language
    category: tuple[str, ...] = CATEGORY  # possible names of the column of categories
    # where it is set, the category is the file's name without its ending and without this suffix
    file_suffix: str = ""
    english: Mapping[str, str] = field(default_factory=dict)  # category -> its English name
    translated: bool = False  # the Chinese is a translation, whose author has to be named
    generate: Callable[[], list[Prompt]] | None = None  # makes the prompts, in place of files


def synthetic_prompts(n: int = 16) -> list[Prompt]:
    """n scenes of every category of skills, in both languages.

    They come from the test split of the default synthetic data."""
    prompts = []
    for category in CATEGORIES:
        for i, scene in enumerate(draw_scenes(Synthetic(), category, n, "test")):
            extra = {
                "suite": "synthetic",
                "id": f"synthetic/{category}/{i}",
                "category": category,
                "scene": scene.to_dict(),
            }
            prompts += [
                Prompt(wording(scene, language, i), language, extra) for language in LANGUAGES
            ]
    return prompts


def wording(scene: Scene, language: str, i: int) -> str:
    """The caption of scene i: the wordings of its kind take turns."""
    return describe(scene, language, i % len(WORDINGS[language][kind_of(scene)])).text


SUITES: dict[str, Suite] = {
    "synthetic": Suite(
        files=(),
        columns={language: () for language in LANGUAGES},
        where="drawn by vilg, no file",
        license="CC0-1.0",
        prompts=16 * len(CATEGORIES),
        generate=synthetic_prompts,
    ),
    "vilg_300": Suite(
        files=(("ViLG-300.csv",),),
        columns={"zh": ("文本",), "en": ("prompt",)},
        where=(
            "github.com/PaddlePaddle/ERNIE, branch ernie-kit-open-v1.0,"
            " Research/ERNIE-ViLG2/data/ViLG-300.csv"
        ),
        license="the repository is Apache-2.0, the file has no licence of its own",
        prompts=300,
        english=VILG_300,
    ),
    "drawbench": Suite(
        files=(("DrawBench.csv", "DrawBench.tsv"),),
        columns={"en": ("prompts", "prompt")},
        where=(
            "the DrawBench sheet that imagen.research.google links, saved as CSV (columns Prompts,"
            " Category)"
        ),
        license="none stated",
        prompts=200,
    ),
    "parti_prompts": Suite(
        files=(("PartiPrompts.tsv",),),
        columns={"en": ("prompt",)},
        where="github.com/google-research/parti, PartiPrompts.tsv",
        license="Apache-2.0",
        prompts=1632,
    ),
    "geneval": Suite(
        files=(("evaluation_metadata.jsonl",),),
        columns={"en": ("prompt",)},
        where="github.com/djghosh13/geneval, prompts/evaluation_metadata.jsonl",
        license="MIT",
        prompts=553,
        category=("tag",),
    ),
    "t2i_compbench": Suite(
        files=tuple((f"{name}_val.txt",) for name in COMPBENCH),
        columns={"en": ("prompt",)},
        where="github.com/Karine-Huang/T2I-CompBench, examples/dataset/*_val.txt",
        license="MIT",
        prompts=2400,
        file_suffix="_val",
    ),
    "coco_30k": Suite(
        files=(("coco_30k.jsonl", "coco_30k.csv"),),
        columns={
            "zh": ("zh", "caption_zh", "译文", "文本"),
            "en": ("en", "caption", "text", "prompt"),
        },
        where=(
            "cocodataset.org, annotations of val2014: one random caption of each of 30,000 pictures"
            " as columns image_id, caption, zh, translation (who or what made zh)"
        ),
        license="captions CC BY 4.0",
        prompts=30_000,
        translated=True,
    ),
}
