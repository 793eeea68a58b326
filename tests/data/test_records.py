import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vilg.data import records
from vilg.data.records import (
    BadRecord,
    captions,
    decode_image,
    encode_png,
    random_bits,
    to_square,
    validate,
)


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format=kind, **options)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size, with no pixels behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_png_round_trip_is_exact():
    image = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image("a", encode_png(image)), image)


def test_alpha_goes_on_white():
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    half.putpixel((1, 0), (0, 0, 0, 128))
    assert decode_image("a", saved(half)).tolist() == [[[255, 255, 255], [127, 127, 127]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    assert decode_image("a", saved(palette, transparency=0)).tolist() == [[[255, 255, 255]]]
    assert decode_image("a", saved(Image.new("LA", (1, 1), (7, 0)))).tolist() == [[[255, 255, 255]]]


def test_other_modes_become_eight_bit_rgb():
    assert decode_image("a", saved(Image.new("L", (1, 1), 9))).tolist() == [[[9, 9, 9]]]
    assert decode_image("a", saved(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]
    deep = Image.fromarray(np.array([[0, 256, 65535]], np.uint16))
    assert decode_image("a", saved(deep)).tolist() == [[[0] * 3, [1] * 3, [255] * 3]]
    cyan = decode_image("a", saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))
    assert cyan.shape == (8, 8, 3) and cyan[0, 0, 0] < 60 < 150 < cyan[0, 0, 2]
    with pytest.raises(BadRecord, match="floating-point"):
        decode_image("a", saved(Image.new("F", (2, 2), 0.5), "TIFF"))


def test_exif_turns_the_picture():
    picture = Image.new("RGB", (16, 8), "white")
    exif = picture.getexif()
    exif[0x0112] = 6
    assert decode_image("a", saved(picture, "JPEG", exif=exif)).shape == (16, 8, 3)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for size in ((9_000, 9_000), (12_000, 12_000), (60_000, 60_000)):
        with pytest.raises(BadRecord, match="bomb"):
            decode_image("big", bomb(*size))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        saved(Image.new("RGB", (64, 64)))[:60],
        bomb(0, 3),
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
)
def test_broken_bytes_are_bad_records(data):
    with pytest.raises(BadRecord) as caught:
        decode_image("name", data)
    assert caught.value.id == "name"


def test_truncated_jpeg_is_a_bad_record():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(BadRecord, match="truncated"):
        decode_image("a", saved(noise, "JPEG")[:1500])


def test_captions_take_strings_bytes_and_objects():
    assert captions("a", ["a dog", "一只狗".encode(), {"text": " 犬 ", "language": "zh"}]) == [
        {"text": "a dog", "language": "en"},
        {"text": "一只狗", "language": "zh"},
        {"text": "犬", "language": "zh"},
    ]
    for broken in (
        [],
        None,
        ["  "],
        [b"\xff\xfe"],
        ["\ud800"],
        [3],
        [{"text": "x", "language": "fr"}],
        [{}],
    ):
        with pytest.raises(BadRecord):
            captions("a", broken)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"image": np.zeros((4, 4, 3))},
        {"image": np.zeros((4, 4), np.uint8)},
        {"image": np.zeros((0, 4, 3), np.uint8)},
        {"captions": []},
        {"captions": ["bare"]},
        {"captions": [{"text": "", "language": "en"}]},
        {"boxes": 5},
        {"boxes": [{"xyxy": ["a", 0, 1, 1], "label": "x"}]},
        {"boxes": [{"xyxy": [0, 0, 2, 1], "label": "x"}]},
        {"boxes": [{"label": "x"}]},
    ],
)
def test_validate_names_what_is_wrong(records, change):
    assert validate(records[0]) is records[0]
    with pytest.raises(BadRecord):
        validate({**records[0], **change})


def test_fit_takes_the_centre_square_or_a_keyed_one():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert (to_square(image, 10) == 200).all() and (to_square(image, 5) == 200).all()
    assert to_square(image.transpose(1, 0, 2), 10).min() == 200
    crops = {to_square(image, 10, key).tobytes() for key in range(21)}
    assert (
        len(crops) > 10 and to_square(image, 10, 5).tobytes() == to_square(image, 10, 26).tobytes()
    )
    assert to_square(np.zeros((1, 5000, 3), np.uint8), 16).shape == (16, 16, 3)
    square = np.zeros((8, 8, 3), np.uint8)
    assert to_square(square, 8) is square


def test_fit_shrinks_without_aliasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(to_square(stripes, 16).astype(int) - 127).max() < 12


def test_random_bits_depend_on_every_number():
    assert random_bits(1, 2, 3) == random_bits(1, 2, 3)
    assert (
        len(
            {
                random_bits(1, 2, 3),
                random_bits(1, 2, 4),
                random_bits(1, 3, 3),
                random_bits(2, 2, 3),
                random_bits(1, 2),
            }
        )
        == 5
    )
    assert all(0 <= random_bits(-i, i) < 2**64 for i in range(20))


def test_language_is_told_by_han_characters():
    assert records.detect_language("T恤") == "zh" and records.detect_language("naïve ☺") == "en"
