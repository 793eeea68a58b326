"""Small records made here, and a text model trained on their captions."""

import numpy as np
import pytest

from vilg.data.text import TextModel, train_text_model


def record(i: int) -> dict:
    """A record with every optional field; its picture and size depend on i."""
    picture = np.random.default_rng(i).integers(0, 256, (20 + i % 3, 24, 3), dtype=np.uint8)
    return {
        "id": f"made/{i}",
        "image": picture,
        "captions": [
            {"text": f"第{i}张图片", "language": "zh"},
            {"text": f"picture number {i}", "language": "en"},
            {"text": f"number {i}, a picture", "language": "en"},
        ],
        "boxes": [{"xyxy": [0.125, 0.25, 0.5, 1.0], "label": "dot"}],
        "words": [[{"text": "图片", "tag": "n"}], [{"text": "picture", "tag": "n"}], []],
        "qa": [{"question": "几号?", "answers": [str(i)], "language": "zh"}],
        "source": "made",
        "license": "CC0-1.0",
        "scene": {"objects": [i], "nested": {"a": None}},
    }


@pytest.fixture
def records() -> list[dict]:
    return [record(i) for i in range(7)]


@pytest.fixture(scope="session")
def text_model(tmp_path_factory) -> TextModel:
    captions = [caption["text"] for i in range(50) for caption in record(i)["captions"]]
    return train_text_model(captions, 400, tmp_path_factory.mktemp("text") / "text.model")
