"""Styles of painting by name. A style is a few words that are appended to a prompt in the prompt's
language.

The names are those of the public ERNIE-ViLG 2.0 product (its "探索无限" is no style). The words
that the product appends are unknown; the words here are vilg's."""

from typing import NamedTuple

from vilg.config import suggestion
from vilg.types import UserError


class Style(NamedTuple):
    """The English name, and the words that are appended to a prompt, by language."""

    english: str
    words: dict[str, str]


STYLES = {
    "古风": Style(
        "ancient", {"zh": "中国古风工笔画", "en": "traditional Chinese ink and colour painting"}
    ),
    "二次元": Style("anime", {"zh": "二次元动漫风格", "en": "Japanese anime style"}),
    "油画": Style("oil", {"zh": "油画，厚重的笔触", "en": "oil painting, thick brush strokes"}),
    "水彩": Style("watercolour", {"zh": "水彩画", "en": "watercolour painting"}),
    "卡通": Style("cartoon", {"zh": "卡通画", "en": "cartoon"}),
    "写实": Style(
        "realistic", {"zh": "写实风格，照片般逼真", "en": "realistic style, as in a photograph"}
    ),
    "未来主义": Style("futurism", {"zh": "未来主义风格", "en": "futurist style"}),
    "浮世绘": Style("ukiyo-e", {"zh": "浮世绘版画", "en": "ukiyo-e woodblock print"}),
    "低多边形": Style("low_poly", {"zh": "低多边形风格", "en": "low poly style"}),
    "像素风格": Style("pixel", {"zh": "像素画风格", "en": "pixel art"}),
    "赛博朋克": Style(
        "cyberpunk", {"zh": "赛博朋克风格，霓虹灯", "en": "cyberpunk style, neon lights"}
    ),
    "蒸汽波": Style("vaporwave", {"zh": "蒸汽波艺术", "en": "vaporwave art"}),
    "概念艺术": Style("concept", {"zh": "概念艺术", "en": "concept art"}),
    "超现实主义": Style("surrealism", {"zh": "超现实主义绘画", "en": "surrealist painting"}),
    "巴洛克": Style("baroque", {"zh": "巴洛克风格", "en": "baroque style"}),
    "洛丽塔": Style("lolita", {"zh": "洛丽塔风格服饰", "en": "Lolita fashion style"}),
}


def find_style(name: str) -> Style:
    """A style by its Chinese or English name. Errors: UserError with the nearest name."""
    names = {key: style for chinese, style in STYLES.items() for key in (chinese, style.english)}
    if name not in names:
        raise UserError(
            f"style={name!r}: {suggestion(name, names, repr)}known styles are {', '.join(STYLES)}"
            " (--style=list prints them)"
        )
    return names[name]


def styled(prompt: str, language: str, style: Style) -> str:
    """The prompt with the style's words in its language appended."""
    return f"{prompt.rstrip(' .,。，')}{'，' if language == 'zh' else ', '}{style.words[language]}"


def style_table() -> str:
    """A line for each style: its Chinese name, English name, Chinese words and English words."""
    return "\n".join(
        f"{name}\t{s.english}\t{s.words['zh']}\t{s.words['en']}" for name, s in STYLES.items()
    )
