"""Protocols of human evaluation: what a rater sees and is asked, in Chinese and English.

A new protocol is an entry of PROTOCOLS. The page that asks and the statistics of the answers both
read this table. A choice's first key is the digit that the page shows; its value is stored. With
two pictures the value is -1 (the left one is better), 0 or 1 (the right one is better)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Text = Mapping[str, str]  # by language: "zh", "en"


@dataclass(frozen=True)
class Choice:
    """One answer to a question."""

    value: int  # the number that is stored
    keys: tuple[str, ...]  # keys of the keyboard that give the answer
    text: Text


@dataclass(frozen=True)
class Question:
    """A question with its choices."""

    name: str
    text: Text
    choices: tuple[Choice, ...]
    # for Krippendorff's alpha: two answers differ as names do, or as places in an order do
    level: Literal["nominal", "ordinal"]

    @property
    def values(self) -> frozenset[int]:
        """The values that an answer may have."""
        return frozenset(choice.value for choice in self.choices)


@dataclass(frozen=True)
class Protocol:
    """A way to ask people about outputs of models."""

    # what --samples holds: pictures of prompts, captions of pictures, or answers about pictures
    inputs: Literal["samples", "captions", "answers"]
    pairs: bool  # an item shows the outputs of two models side by side
    raters: int  # raters that a study takes, as in the paper
    average: bool  # the questions share one scale, so that their mean is reported too
    source: str  # the paper, and the place in it
    title: Text
    instructions: tuple[Text, ...]
    questions: tuple[Question, ...]


def scale(
    name: str, zh: str, en: str, lowest: int, words: Mapping[int, tuple[str, str]], highest: int
) -> Question:
    """A question that is answered by a number.

    `words` has the meaning of some of the numbers, in Chinese and English."""
    choices = []
    for value in range(lowest, highest + 1):
        chinese, english = words.get(value, ("", ""))
        choices.append(Choice(value, (str(value),), {"zh": chinese, "en": english}))
    return Question(name, {"zh": zh, "en": en}, tuple(choices), "ordinal")


SIDES = (
    Choice(-1, ("1", "ArrowLeft"), {"zh": "左图", "en": "Left"}),
    Choice(0, ("2", "ArrowDown"), {"zh": "没有差别", "en": "No difference"}),
    Choice(1, ("3", "ArrowRight"), {"zh": "右图", "en": "Right"}),
)
FIVE = {1: ("很差", "bad"), 3: ("一般", "fair"), 5: ("很好", "great")}
THREE = {0: ("差", "poor"), 1: ("一般", "fair"), 2: ("好", "good")}
BLIND = {
    "zh": "题目的顺序是随机的，不显示由谁生成。请只根据所看到的内容作答，不要猜测来源。",
    "en": (
        "The order is random and nothing says who made what. Judge only what you see; do not guess"
        " where it comes from."
    ),
}

PROTOCOLS = {
    "pairs": Protocol(
        inputs="samples",
        pairs=True,
        raters=5,
        average=False,
        source="ERNIE-ViLG 2.0 (2210.15257), human evaluation: side by side, blind, 5 raters",
        title={"zh": "图像对比", "en": "Compare two pictures"},
        instructions=(
            {
                "zh": (
                    "每一题有一段文本和两张按它生成的图片。请比较两张图片，"
                    "回答两个问题；看不出差别时，请选“没有差别”。"
                ),
                "en": (
                    "You see a text and two pictures made from it. Compare the pictures and answer"
                    " two questions; where you see no difference, say so."
                ),
            },
            {
                "zh": (
                    "图文相符：图片是否画出了文本所说的事物、数量、颜色、位置和风格。"
                    "图像质量：图片是否清晰、自然、没有缺陷，与文本无关。"
                ),
                "en": (
                    "Alignment: does the picture show the things, numbers, colours, places and"
                    " style that the text names? Fidelity: is it clear, natural and free of flaws,"
                    " whatever the text says?"
                ),
            },
            BLIND,
        ),
        questions=(
            Question(
                "alignment",
                {"zh": "哪张图片与文本更相符？", "en": "Which picture fits the text better?"},
                SIDES,
                "nominal",
            ),
            Question(
                "fidelity",
                {"zh": "哪张图片的质量更好？", "en": "Which picture is of better quality?"},
                SIDES,
                "nominal",
            ),
        ),
    ),
    "images": Protocol(
        inputs="samples",
        pairs=False,
        raters=3,
        average=True,
        source=(
            "ERNIE-ViLG 1.0 (2112.15283), section 4.1: clarity, texture and relevance from 1 to 5,"
            " three evaluators"
        ),
        title={"zh": "图像评分", "en": "Rate a picture"},
        instructions=(
            {
                "zh": (
                    "每一题有一段文本和一张按它生成的图片。请从三个方面打分，1 分最低，5 分最高。"
                ),
                "en": (
                    "You see a text and a picture made from it. Rate the picture in three respects,"
                    " from 1 (lowest) to 5 (highest)."
                ),
            },
            BLIND,
        ),
        questions=(
            scale("clarity", "图像清晰度", "Image clarity", 1, FIVE, 5),
            scale("texture", "图像纹理质量", "Texture quality", 1, FIVE, 5),
            scale("relevance", "与文本的相关性", "Relevance to the text", 1, FIVE, 5),
        ),
    ),
    "captions": Protocol(
        inputs="captions",
        pairs=False,
        raters=5,
        average=True,
        source=(
            "ERNIE-ViLG 1.0 (2112.15283), section 4.3: fluency, relevance and richness from 0 to 2"
        ),
        title={"zh": "描述评分", "en": "Rate a caption"},
        instructions=(
            {
                "zh": (
                    "每一题有一张图片和一句对它的描述。请从三个方面给描述打分，0 分最低，2 分最高。"
                ),
                "en": (
                    "You see a picture and a caption of it. Rate the caption in three respects,"
                    " from 0 (lowest) to 2 (highest)."
                ),
            },
            BLIND,
        ),
        questions=(
            scale("fluency", "流畅性：语句是否通顺？", "Fluency: does it read well?", 0, THREE, 2),
            scale(
                "relevance",
                "相关性：是否与图片有关？",
                "Relevance: is it about this picture?",
                0,
                THREE,
                2,
            ),
            scale(
                "richness",
                "丰富性：是否充分描述了整张图片的内容？",
                "Richness: does it describe the whole picture?",
                0,
                THREE,
                2,
            ),
        ),
    ),
    "vqa": Protocol(
        inputs="answers",
        pairs=False,
        raters=5,
        average=False,
        source=(
            "ERNIE-ViLG 1.0 (2112.15283), section 4.4: Turing test, and answer quality from 0 to 2"
        ),
        title={"zh": "回答评分", "en": "Rate an answer"},
        instructions=(
            {
                "zh": (
                    "每一题有一张图片、一个问题和一个回答。请判断回答出自人还是机器，"
                    "并给回答的质量打分，0 分最低，2 分最高。"
                ),
                "en": (
                    "You see a picture, a question and an answer. Say whether a human or a machine"
                    " answered, and rate the answer from 0 (lowest) to 2 (highest)."
                ),
            },
            BLIND,
        ),
        questions=(
            Question(
                "human",
                {"zh": "这个回答出自人还是机器？", "en": "Who gave this answer?"},
                (
                    Choice(1, ("1", "ArrowLeft"), {"zh": "人", "en": "A human"}),
                    Choice(0, ("2", "ArrowRight"), {"zh": "机器", "en": "A machine"}),
                ),
                "nominal",
            ),
            scale("quality", "回答的质量如何？", "How good is the answer?", 0, THREE, 2),
        ),
    ),
}
