import io
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vilg.data.records import BadRecord, encode_png, validate
from vilg.data.sources import fingerprint, parse_source
from vilg.types import UserError


def build(directory, examples):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "image/id": np.int64,
            "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                }
            ),
            "title": tfds.features.Text(),
        }
    )

    class CocoCaptions(tfds.core.GeneratorBasedBuilder):
        """As coco_captions, made by hand."""

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="2014", description="as the real one has")]
        name = "coco_captions"

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    builder = CocoCaptions(config="2014", data_dir=directory, file_format="array_record")
    builder.download_and_prepare()
    return builder.data_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG")
    jpeg.seek(0)
    box = {"bbox": np.array([0.0, 0.25, 0.5, 1.0], np.float32), "label": "dog"}
    rows = [
        {
            "image": io.BytesIO(encode_png(image)),
            "image/id": 41,
            "captions": [{"id": 1, "text": "a dog"}, {"id": 2, "text": "一只狗"}],
            "objects": [box],
            "title": "dog",
        },
        {"image": jpeg, "image/id": 42, "captions": [], "objects": [], "title": "none"},
        {
            "image": io.BytesIO(b"broken"),
            "image/id": 43,
            "captions": [{"id": 3, "text": "x"}],
            "objects": [],
            "title": "x",
        },
    ]
    logging.getLogger("absl").setLevel(logging.ERROR)
    directory = tmp_path_factory.mktemp("tfds")
    build(directory, rows)
    return directory, image


def by_id(source):
    found = {}
    for i in range(len(source)):
        try:
            record = validate(source[i])
            found[record["id"]] = record
        except BadRecord as error:
            found[error.id] = error.reason
    return found


def test_coco_captions_are_read_by_their_known_fields(made):
    directory, image = made
    source = parse_source(f"tfds:coco_captions,data_dir={directory}")
    found = by_id(source)
    assert len(source) == 3 and found.keys() == {"41", "42", "43"}
    np.testing.assert_array_equal(found["41"]["image"], image)
    assert found["41"]["captions"] == [
        {"text": "a dog", "language": "en"},
        {"text": "一只狗", "language": "zh"},
    ]
    assert found["41"]["boxes"] == [{"xyxy": [0.25, 0.0, 1.0, 0.5], "label": "dog"}]
    assert json.dumps(found["41"]["boxes"]) and found["41"]["source"] == "coco_captions/2014/1.0.0"
    assert found["42"] == "no captions" and "decoded" in found["43"]


def test_a_fresh_process_reads_it_from_its_files_without_tensorflow(made):
    code = """if True:
        import sys
        from vilg.data.sources import parse_source
        print(len(parse_source(sys.argv[1])), "tensorflow" in sys.modules)
    """
    source = f"tfds:coco_captions,data_dir={made[0]}"
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True)
    assert done.stdout == "3 False\n", done.stderr


def test_fields_may_be_mapped(made):
    directory, _ = made
    source = parse_source(
        f"tfds:coco_captions,data_dir={directory},text=title,language=zh,split=train[:1]"
    )
    assert len(source) == 1
    whole = parse_source(f"tfds:coco_captions,data_dir={directory},text=title,language=zh")
    assert by_id(whole)["41"]["captions"] == [{"text": "dog", "language": "zh"}]
    assert fingerprint(whole) != fingerprint(source)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("coco_captions,text=captions/txt", "no such feature"),
        ("no_such_set", "not prepared"),
        ("coco_captions,split=tset", "split='tset'"),
    ],
)
def test_mistakes_are_sentences(made, text, named):
    with pytest.raises(UserError, match=named) as caught:
        len(parse_source(f"tfds:{text},data_dir={made[0]}"))
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_not_built_names_the_command(tmp_path):
    with pytest.raises(UserError, match="download_and_prepare"):
        len(parse_source(f"tfds:coco_captions,data_dir={tmp_path}"))
