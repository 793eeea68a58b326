"""vilg score images end to end on small folders: each extractor, what is kept and cached, what is
warned of, and bad input.
"""

import functools
import json
import types
from argparse import ArgumentParser

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.oracles import oracle
from vilg.data.prompts import Prompt
from vilg.metrics.frechet import frechet_distance
from vilg.metrics.statistics import FeatureStatistics
from vilg.run.score import extractors, picture_set, ranker
from vilg.run.score import images as score_images
from vilg.run.score.clip import ClipExtractor
from vilg.run.score.extractors import EXTRACTORS, ExtractorOptions
from vilg.run.score.features import Extractor, Features, TextExtractor, features_of
from vilg.run.score.inception import InceptionExtractor
from vilg.run.score.metrics import METRICS, Compared
from vilg.types import UserError
from vilg.workdir.session import Session

torch, transformers = oracle("torch"), oracle("transformers")
torch_inception = oracle("vilg.run.bench.torch_inception")

WORDS = ["<s>", "<e>", "a", "red", "blue", "ring", "square"]


class Toy:
    """Eight numbers of a picture, and probabilities of two classes."""

    name, label, width, rows, classes = "toy", "", 8, 4, True
    seen = 0

    def prepare(self, image):
        return np.asarray(Image.fromarray(image).resize((4, 2)), np.float32).mean(-1)

    def start(self, batch):
        type(self).seen += len(batch)
        flat = batch.reshape(len(batch), 8) / 255
        return lambda: Features(flat, np.stack([flat[:, 0], 1 - flat[:, 0]], 1))

    def protocol(self):
        return {"name": self.name}


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(score_images, "open_extractor", lambda args: Toy())
    Toy.seen = 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve real pictures and nine made ones, of many sizes; a prompt for each made one."""
    place = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    for name, n in (("real", 12), ("made", 9)):
        (place / name).mkdir()
        for i in range(n):
            pixels = rng.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{i:02d}.png")
    lines = [
        {"prompt": f"a {'red' if i % 2 else 'blue'} ring", "file": f"{i:02d}.png"} for i in range(9)
    ]
    (place / "prompts.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in reversed(lines))
    )
    return place


def score(out, *options):
    """(exit code, what was written)."""
    parser = ArgumentParser()
    score_images.add_arguments(parser)
    code = score_images.main(parser.parse_args([*options, f"--out={out}", "--quiet"]), None)
    return code, json.loads(out.read_text())


def test_every_metric_of_two_folders(toy, folders, tmp_path, capsys):
    code, found = score(
        tmp_path / "o.json",
        f"--images={folders}/made",
        f"--reference={folders}/real",
        "--weights=w",
    )
    assert code == 0
    assert list(found["metrics"]) == [
        "FID",
        "KID",
        "KID_deviation",
        "IS",
        "IS_deviation",
        "precision",
        "recall",
        "density",
        "coverage",
    ]
    toy_features = {
        n: features_of(Toy(), [np.asarray(Image.open(p)) for p in sorted((folders / n).iterdir())])
        for n in ("real", "made")
    }
    sets = []
    for part in toy_features.values():
        sets.append(FeatureStatistics(8))
        sets[-1].update(part.features)
    assert found["metrics"]["FID"] == pytest.approx(frechet_distance(*sets), rel=1e-9)
    protocol = found["protocol"]
    assert (protocol["n"], protocol["n_reference"], protocol["skipped"]) == (9, 12, 0)
    assert (
        protocol["extractor"] == {"name": "toy", "features": 8}
        and protocol["KID"]["subset_size"] == 9
    )
    assert "numpy" in protocol["versions"] and found["warnings"] == []
    assert "FID" in capsys.readouterr().out


def test_the_reference_is_computed_once_for_its_content_and_extractor(toy, folders, tmp_path):
    options = f"--images={folders}/made", f"--reference={folders}/real", "--weights=w"
    first = score(tmp_path / "o.json", *options, "--metrics=FID")[1]
    assert (
        Toy.seen == 9 + 12
        and len(list((tmp_path / "cache" / "vilg" / "statistics").iterdir())) == 1
    )
    assert (
        score(tmp_path / "o.json", *options, "--metrics=FID")[1] == first and Toy.seen == 9 + 12 + 9
    )
    whole = score(tmp_path / "o.json", *options)[
        1
    ]  # the features are wanted now, and then kept too
    again = score(tmp_path / "o.json", *options)[1]
    assert (
        Toy.seen == 3 * 9 + 12 + 12 + 9
        and again == whole
        and whole["metrics"]["FID"] == first["metrics"]["FID"]
    )
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i, path in enumerate(sorted((folders / "real").iterdir())):
        (renamed / f"x{i:02d}.png").write_bytes(path.read_bytes())
    score(tmp_path / "o.json", options[0], f"--reference={renamed}", "--weights=w", "--metrics=FID")
    assert Toy.seen == 4 * 9 + 12 + 12 + 9
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(renamed / "x00.png")
    score(tmp_path / "o.json", options[0], f"--reference={renamed}", "--weights=w", "--metrics=FID")
    assert Toy.seen == 5 * 9 + 12 + 12 + 9 + 12


def test_saved_statistics_stand_for_the_folder_and_are_checked(toy, folders, tmp_path, monkeypatch):
    saved = tmp_path / "s.npz"
    options = f"--images={folders}/made", "--weights=w"
    direct = score(
        tmp_path / "o.json",
        *options,
        f"--reference={folders}/real",
        f"--save_statistics={saved}",
        "--metrics=FID",
    )[1]
    stored = score(tmp_path / "o.json", *options, f"--reference={saved}")[1]
    assert (
        set(stored["metrics"]) == {"FID", "IS", "IS_deviation"}
        and stored["protocol"]["n_reference"] == 12
    )
    assert stored["metrics"]["FID"] == pytest.approx(direct["metrics"]["FID"], rel=1e-9)
    theirs = FeatureStatistics.load(saved)
    np.savez(tmp_path / "theirs.npz", mu=theirs.mean, sigma=theirs.covariance)
    anonymous = score(tmp_path / "o.json", *options, f"--reference={tmp_path / 'theirs.npz'}")[1]
    assert anonymous["metrics"]["FID"] == pytest.approx(direct["metrics"]["FID"], rel=1e-9)
    assert (
        anonymous["protocol"]["n_reference"] is None
        and "does not say which network" in anonymous["warnings"][0]
    )
    monkeypatch.setattr(Toy, "name", "other")
    with pytest.raises(
        UserError, match="was computed with extractor toy, these pictures with other"
    ):
        score(tmp_path / "o.json", *options, f"--reference={saved}")


def test_files_that_are_no_pictures_are_counted_and_small_sets_are_said(
    toy, folders, tmp_path, capsys
):
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted((folders / "made").iterdir())[:6]:
        (some / path.name).write_bytes(path.read_bytes())
    (some / "03.png").write_bytes(b"not a picture")
    found = score(
        tmp_path / "o.json",
        f"--images={some}",
        f"--reference={folders}/real",
        "--weights=w",
        "--metrics=FID",
    )[1]
    assert (found["protocol"]["n"], found["protocol"]["skipped"]) == (5, 1)
    said = capsys.readouterr().err
    assert (
        "03.png: image cannot be decoded" in said
        and "the image set has 5 pictures, not more than the 8 features" in said
    )
    assert len(found["warnings"]) == 2


def test_features_that_are_not_finite_name_their_picture(toy, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Toy,
        "prepare",
        lambda self, image: np.full((2, 4), np.nan if len(image) == 26 else 1.0, np.float32),
    )
    with pytest.raises(
        UserError, match=r"images: the features of picture 6 \(.*06.png\) are not finite"
    ):
        score(tmp_path / "o.json", f"--images={folders}/made", "--weights=w", "--metrics=IS")


def test_more_features_than_memory_keeps_are_refused_before_the_work(
    toy, folders, tmp_path, monkeypatch
):
    monkeypatch.setattr(picture_set, "KEPT", 8 * 4 * 10)
    options = f"--images={folders}/made", f"--reference={folders}/real", "--weights=w"
    with pytest.raises(UserError, match="reference: 12 pictures x 8 features are over the limit"):
        score(tmp_path / "o.json", *options, "--metrics=KID")
    assert (
        Toy.seen == 0
        and "FID" in score(tmp_path / "o.json", *options, "--metrics=FID")[1]["metrics"]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images=none"], "images='none': no picture there"),
        (["--images=EMPTY"], "no picture there"),
        (["--images=MADE", "--reference=EMPTY"], "reference=.*no picture there"),
        (["--images=MADE"], "weights is empty"),
        (["--images=MADE", "--weights=w", "--ranker=r"], "weights='w': a ranker's run has its own"),
        (["--images=MADE", "--extractor=clip", "--ranker=r"], "ranker='r': takes the place"),
        (
            ["--images=MADE", "--extractor=resnet", "--weights=w"],
            "extractor='resnet': known names are 'inception', 'clip'",
        ),
        (
            ["--images=MADE", "--extractor=clip", "--weights=w", "--resize=clean"],
            "only inception has a choice",
        ),
        (["--images=MADE", "--weights=w", "--clip_tokenizer=t"], "needs --extractor=clip"),
        (["--images=MADE", "--weights=w", "--column=c"], "column='c'"),
        (["--images=MADE", "--weights=w", "--batch=0"], "batch=0"),
        (["--images=MADE", "--weights=w", "--save_statistics=OUT.npz"], "give --reference=DIR"),
        (["--images=MADE", "--weights=w", "--metrics=FID"], "metrics='FID': needs --reference=DIR"),
        (
            ["--images=MADE", "--weights=w", "--metrics=fid"],
            "metrics='fid': known names are 'FID', 'KID'",
        ),
        (
            ["--images=MADE", "--weights=w", "--metrics=CLIP-score"],
            "metrics='CLIP-score': needs features of texts",
        ),
        (["--images=MADE", "--weights=w", "--prompts=TWO"], "2 prompts for 9 pictures"),
        (
            ["--images=MADE", "--weights=w", "--prompts=NAMED"],
            "8 of 9 pictures have no prompt there, the first '00.png'",
        ),
    ],
)
def test_mistakes_are_one_sentence(options, words, toy, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "named.jsonl").write_text('{"prompt": "a", "file": "05.png"}\n')
    places = {
        "MADE": folders / "made",
        "EMPTY": tmp_path / "empty",
        "OUT": tmp_path / "x",
        "TWO": tmp_path / "two.txt",
    }
    for name, place in (places | {"NAMED": tmp_path / "named.jsonl"}).items():
        options = [o.replace(f"={name}", f"={place}") for o in options]
    with pytest.raises(UserError, match=words) as found:
        score(tmp_path / "o.json", *options)
    assert "\n" not in str(found.value)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random InceptionV3 as the published file is."""
    path = tmp_path_factory.mktemp("inception") / "w.pth"
    torch.save(torch_inception.random_inception().state_dict(), path)
    return path


def test_inception_from_a_torch_file(weights, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = functools.partial(InceptionExtractor, side=75, devices=jax.devices()[:1])
    monkeypatch.setattr(extractors, "InceptionExtractor", small)
    options = (
        f"--weights={weights}",
        f"--images={folders}/made",
        "--batch=4",
        "--resize=clean",
        "--metrics=IS,KID",
    )
    found = score(tmp_path / "o.json", *options, f"--reference={folders}/real")[1]
    assert (
        set(found["metrics"]) == {"IS", "IS_deviation", "KID", "KID_deviation"}
        and 1 < found["metrics"]["IS"] < 1008
    )
    assert (
        found["protocol"]["extractor"]["resize"] == "clean to 75x75"
        and len(found["protocol"]["extractor"]["weights_hash"]) == 16
    )
    assert found["protocol"]["extractor"]["features"] == 2048


def test_weights_of_another_architecture_are_one_sentence(tmp_path):
    save_file(
        {"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}, tmp_path / "resnet.safetensors"
    )
    with pytest.raises(
        UserError, match="has no Conv2d_1a_3x3.conv.weight; give the weights of FID's InceptionV3"
    ):
        InceptionExtractor(str(tmp_path / "resnet.safetensors"), "clean", 2)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A random CLIP as Hugging Face saves it, and a tokenizer of seven words."""
    place = tmp_path_factory.mktemp("clip")
    shared = {
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
    }
    text = shared | {
        "vocab_size": 7,
        "max_position_embeddings": 5,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.CLIPModel(
            transformers.CLIPConfig(
                vision_config=shared | {"image_size": 16, "patch_size": 8},
                text_config=text,
                projection_dim=12,
            )
        )
    model.save_pretrained(place)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <e>", special_tokens=[("<s>", 0), ("<e>", 1)]
    )
    tokenizer.save(str(place / "tokenizer.json"))
    return place, model.eval().requires_grad_(False)


def test_clip_score_is_the_cosine_of_each_picture_and_its_own_prompt(
    clip_folder, folders, tmp_path
):
    place, model = clip_folder
    options = (
        "--extractor=clip",
        f"--weights={place / 'model.safetensors'}",
        f"--images={folders}/made",
    )
    found = score(tmp_path / "o.json", *options, f"--prompts={folders / 'prompts.jsonl'}")[1]
    assert set(found["metrics"]) == {"CLIP-score", "CLIP-score_deviation"}
    extractor = ClipExtractor(str(place / "model.safetensors"), 8)
    pixels = np.stack(
        [extractor.prepare(np.asarray(Image.open(p))) for p in sorted((folders / "made").iterdir())]
    )
    ids = torch.tensor([[0, 2, 3 if i % 2 else 4, 5, 1] for i in range(9)])
    expected = model(
        input_ids=ids, pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    )
    cosines = (expected.image_embeds * expected.text_embeds).sum(-1).numpy()
    assert found["metrics"]["CLIP-score"] == pytest.approx(
        float(np.mean(100 * np.maximum(cosines, 0))), abs=1e-3
    )
    assert np.std(cosines) > 1e-3 and found["protocol"]["CLIP-score"]["cut_prompts"] == 0


def test_distances_in_clips_space_bear_its_name_and_prompts_it_cannot_read_are_said(
    clip_folder, folders, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "p.txt").write_text("a red ring and a blue square\n" + "红色的环\n" * 8)
    options = (
        "--extractor=clip",
        f"--weights={clip_folder[0] / 'model.safetensors'}",
        f"--images={folders}/made",
    )
    found = score(
        tmp_path / "o.json",
        *options,
        f"--reference={folders}/real",
        f"--prompts={tmp_path / 'p.txt'}",
    )[1]
    assert {"FID(clip)", "KID(clip)", "precision(clip)", "CLIP-score"} <= set(
        found["metrics"]
    ) and "FID" not in found["metrics"]
    said = "\n".join(found["warnings"])
    assert (
        "8 of 9 prompts are not in a language that clip knows" in said
        and "1 of 9 prompts are longer" in said
    )


def test_a_tokenizer_that_is_missing_or_of_another_model_is_one_sentence(clip_folder, tmp_path):
    weights = str(clip_folder[0] / "model.safetensors")
    with pytest.raises(UserError, match="clip_tokenizer='.*none.json': there is no such file"):
        ClipExtractor(weights, 2, str(tmp_path / "none.json")).texts(["a"], ["en"])
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="is no tokenizer.json"):
        ClipExtractor(weights, 2, str(tmp_path / "bad.json")).texts(["a"], ["en"])
    other = Tokenizer(models.WordLevel({"a": 9}, unk_token="a"))
    other.save(str(tmp_path / "other.json"))
    with pytest.raises(UserError, match="has id 9, but the network knows 7"):
        ClipExtractor(weights, 2, str(tmp_path / "other.json")).texts(["a"], ["en"])
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "lonely.safetensors")
    with pytest.raises(UserError, match="put the model's config.json beside its weights"):
        ClipExtractor(str(tmp_path / "lonely.safetensors"), 2)


def test_a_ranker_of_ones_own_names_its_numbers(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    class Fake(Session):
        @property
        def experiment(self):
            return types.SimpleNamespace(image_codec=types.SimpleNamespace(image_size=8))

    session = object.__new__(Fake)
    vars(session).update(
        program=None,
        params={},
        step=7,
        batch=4,
        text_ids=lambda text, language: (np.zeros(3), False),
        embed_images=lambda images: unit(1.0 + images.reshape(len(images), -1)[:, :6]),
        embed_texts=lambda texts, languages: unit(
            np.array([[1.0 + len(t), 1, 1, 1, 1, 1] for t in texts])
        ),
    )
    monkeypatch.setattr(ranker, "open_session", lambda workdir: session)
    monkeypatch.setattr(ranker, "fingerprint", lambda params, program: "abc")
    options = (
        "--ranker=runs/r",
        f"--images={folders}/made",
        f"--prompts={folders / 'prompts.jsonl'}",
    )
    found = score(tmp_path / "o.json", *options, f"--reference={folders}/real")[1]
    assert {"FID(ranker)", "CLIP-score(ranker)"} <= set(found["metrics"]) and all(
        k.endswith("(ranker)") for k in found["metrics"]
    )
    assert (
        found["protocol"]["extractor"]["name"] == "ranker:abc"
        and found["protocol"]["extractor"]["step"] == 7
    )


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_computes_the_values_of_its_name_and_says_how(name, toy, folders):
    """Each entry of METRICS, from two sets that hold what the entry says that it needs."""
    group, extractor = METRICS[name], ToyOfTexts()
    made = picture_set.collect(extractor, sorted((folders / "made").iterdir()), group.keeps, "made")
    real = picture_set.collect(extractor, sorted((folders / "real").iterdir()), group.keeps, "real")
    prompts = [Prompt("a ring", "en") for _ in made.paths] if group.texts else []
    reference = real if group.reference else None
    result = group.compute(Compared(made, reference, extractor, prompts, 0))
    assert np.isfinite(result.values[name]) and json.dumps(result.protocol)
    together = {other for other, entry in METRICS.items() if entry is group}
    assert {key.removesuffix("_deviation") for key in result.values} == together


class ToyOfTexts(Toy):
    """The toy, and eight numbers of a text."""

    languages = ("en",)

    def texts(self, texts, languages):
        return np.ones((len(texts), 8), np.float32), 0


def test_every_extractor_keeps_the_interface(weights, clip_folder, monkeypatch):
    """Each entry of EXTRACTORS, opened from a small file of weights."""
    small = functools.partial(InceptionExtractor, side=75, devices=jax.devices()[:1])
    monkeypatch.setattr(extractors, "InceptionExtractor", small)
    files = {"inception": weights, "clip": clip_folder[0] / "model.safetensors"}
    assert set(files) == set(EXTRACTORS)
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name, file in files.items():
        extractor = EXTRACTORS[name](ExtractorOptions(str(file), 2))
        assert isinstance(extractor, Extractor) and extractor.name == name
        features, probabilities = features_of(extractor, [picture] * 3)
        assert features.shape == (3, extractor.width) and features.dtype == np.float32
        assert (probabilities is not None) == extractor.classes
        assert json.dumps(extractor.protocol())
        if isinstance(extractor, TextExtractor):
            assert extractor.texts(["a"], ["en"])[0].shape == (1, extractor.width)
