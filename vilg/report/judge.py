"""The page on which people judge: one HTML file with its pictures beside it, served or opened from
disk.

The page shows only the part of a study (vilg/run/judge/study.py) that a rater may know. judge.html
is its layout and its program."""

from collections.abc import Mapping, Sequence

from vilg.report.protocols import Protocol
from vilg.report.templates import template

# Where the page's votes go: they stay in the browser, or go to the server, which replaces the first
# attribute by the second in the page that it sends.
STATIC, SERVED = 'data-votes="kept"', 'data-votes="sent"'
LABELS = {
    "prompt": {"zh": "文本", "en": "Text"},
    "caption": {"zh": "描述", "en": "Caption"},
    "question": {"zh": "问题", "en": "Question"},
    "answer": {"zh": "回答", "en": "Answer"},
}
WORDS = {
    "switch": {"zh": "English", "en": "中文"},
    "name": {"zh": "您的名字或代号", "en": "Your name, or any name you choose"},
    "name_hint": {
        "zh": "以后用同一个名字，就能从停下的地方继续。",
        "en": "Use the same name later to go on where you stopped.",
    },
    "start": {"zh": "开始", "en": "Start"},
    "position": {"zh": "第 {n} 题，共 {total} 题", "en": "{n} of {total}"},
    "rater": {"zh": "评分人：{name}", "en": "Rater: {name}"},
    "other": {"zh": "换人", "en": "Change"},
    "picture": {"zh": "图片", "en": "Picture"},
    "left": {"zh": "左图", "en": "Left"},
    "right": {"zh": "右图", "en": "Right"},
    "enlarge": {"zh": "放大", "en": "enlarge"},
    "close": {"zh": "关闭", "en": "Close"},
    "back": {"zh": "上一题", "en": "Back"},
    "next": {"zh": "下一题", "en": "Next"},
    "unanswered": {"zh": "请先回答所有问题。", "en": "Answer every question first."},
    "failed": {
        "zh": "没有保存，请再按一次“下一题”。",
        "en": "This was not saved; press Next again.",
    },
    "unloaded": {
        "zh": "无法读取已有的评分，请再试一次。",
        "en": "Your earlier votes could not be read; try again.",
    },
    "missing": {
        "zh": "图片无法显示，请告诉组织者。",
        "en": "A picture cannot be shown; tell whoever runs this study.",
    },
    "help": {"zh": "说明和按键", "en": "Instructions and keys"},
    "keys_answer": {
        "zh": "数字键：回答标出的问题，然后转到下一个问题",
        "en": "Digits answer the marked question and go on to the following one",
    },
    "keys_sides": {
        "zh": "← 左图更好，→ 右图更好，↓ 没有差别",
        "en": "← left is better, → right is better, ↓ no difference",
    },
    "keys_move": {"zh": "↑ 回到前一个问题", "en": "↑ marks the question before"},
    "keys_next": {
        "zh": "回车键：下一题；退格键：上一题",
        "en": "Enter: next; Backspace: back, to correct the last one",
    },
    "done": {"zh": "全部完成，谢谢！", "en": "All done. Thank you!"},
    "done_sent": {
        "zh": "您的评分已经保存，可以关闭本页。",
        "en": "Your votes are saved; you can close this page.",
    },
    "done_kept": {
        "zh": "请下载评分文件，并把它发给组织者。",
        "en": "Download the file of your votes and send it to whoever runs this study.",
    },
    "kept": {
        "zh": "评分保存在这个浏览器里；完成后请下载评分文件，发给组织者。",
        "en": (
            "Your votes stay in this browser; when you are done, download their file and send it to"
            " whoever runs this study."
        ),
    },
    "download": {"zh": "下载评分", "en": "Download the votes"},
}


def judge_page(
    study: str, protocol: Protocol, items: Sequence[Mapping[str, object]], *, pixelated: bool
) -> str:
    """The page's HTML. An item holds what raters may know of it: "id", "pictures" (paths beside the
    page), "texts" by name, and "language".

    `pixelated` shows the pixels of small pictures as squares instead of blurred."""
    questions = [
        {
            "name": question.name,
            "text": question.text,
            "choices": [
                {"value": c.value, "keys": c.keys, "text": c.text} for c in question.choices
            ],
        }
        for question in protocol.questions
    ]
    data = {
        "study": study,
        "title": protocol.title,
        "instructions": protocol.instructions,
        "questions": questions,
        "sides": protocol.pairs,
        "items": list(items),
        "words": WORDS,
        "labels": LABELS,
    }
    return template("judge.html").render(
        data=data, title=" · ".join(protocol.title.values()), votes=STATIC, pixelated=pixelated
    )
