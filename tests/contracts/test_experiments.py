"""Every experiment file and size builds; parameter counts of the papers' sizes match PAPERS 0.

No config changes unnoticed: tests/goldens/configs.txt has a hash of each, which UPDATE_GOLDENS=1
rewrites. Nothing is allocated."""

import hashlib
import json
import math
import os
from pathlib import Path

import jax
import pytest

from vilg.experiment import SECTIONS, build_experiment
from vilg.experiment_file import load_config, load_file, to_dict
from vilg.fit import path_name
from vilg.parallel.axes import axis_lengths
from vilg.parallel.layouts import parse_layout, parse_layouts
from vilg.planning.topology import parse_topology
from vilg.program import Program, is_box
from vilg.types import Codec, Generator, Ranker, Trainable, UserError
from vilg.workdir.ablation import ablation_runs, read_ablation

FILES = (
    "tokenizer",
    "ernie_vilg",
    "ernie_vilg2",
    "quickstart",
    "ranker",
    "compare_quickstart",
    "compare_emoji",
)
# Files that hold some sizes of another file, which finds them by the same names.
PARTS = {
    "ernie_vilg2_paper": "ernie_vilg2",
    "ernie_vilg2_small": "ernie_vilg2",
    "ernie_vilg_paper": "ernie_vilg",
    "ernie_vilg_small": "ernie_vilg",
    "tokenizer_256px": "tokenizer",
    "tokenizer_kl": "tokenizer",
}
ABLATIONS = ("noise", "experts", "knowledge")
FIXED = (
    "training.steps",
    "training.batch_size",
    "training.checkpoint_every",
    "training.log_every",
    "layout.name",
    "codec.workdir",
)


def sizes(file: str) -> list[str]:
    return list(load_file(f"experiments/{file}.py").SIZES)


ALL = [f"{file}:{size}" for file in FILES for size in sizes(file)]
GOLDEN = Path("tests/goldens/configs.txt")
# What experiment files define beside configs: the tables of ablations, plans and comparisons.
TABLES = "BUDGET CELLS CONTROLS LAYOUTS METRICS RANKER SAMPLING SEEDS TABLES TOPOLOGIES"


def test_no_experiment_is_forgotten():
    assert {p.stem for p in Path("experiments").glob("*.py")} == {*FILES, *PARTS}
    assert {p.stem for p in Path("experiments/ablations").glob("*.py")} == {*ABLATIONS, "layouts"}


@pytest.mark.parametrize("part", PARTS)
def test_every_size_of_a_part_is_a_size_of_the_whole_file(part):
    for size in sizes(part):
        config = load_config(f"experiments/{PARTS[part]}.py:{size}")
        assert load_config(f"experiments/{part}.py:{size}") == config


@pytest.mark.parametrize("name", ALL)
def test_it_builds_and_has_the_fixed_keys(name):
    file, size = name.split(":")
    config = load_config(f"experiments/{file}.py:{size}")
    for key in FIXED:
        section, field = key.split(".")
        assert field in config[section], key
    experiment = build_experiment(config)
    assert isinstance(experiment.trainable, Trainable) and isinstance(experiment.image_codec, Codec)
    assert experiment.codec is None or isinstance(experiment.model, Generator | Ranker)
    assert set(config) == set(SECTIONS)
    shapes = jax.eval_shape(experiment.trainable.init, jax.random.key(0))
    assert all(is_box(x) for x in jax.tree.leaves(shapes, is_leaf=is_box)), (
        "every parameter has named axes"
    )


def content_hash(content) -> str:
    """A hash of the content as JSON, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, default=to_dict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_no_config_changes_unnoticed():
    """A changed config is another experiment: runs stored under the old one do not resume."""
    lines = [f"{name} {content_hash(load_config(f'experiments/{path(name)}'))}" for name in ALL]
    for file in sorted(Path("experiments").rglob("*.py")):
        module = load_file(str(file))
        name = file.relative_to("experiments").with_suffix("").as_posix()
        lines += [
            f"{name} {table} {content_hash(getattr(module, table))}"
            for table in TABLES.split()
            if hasattr(module, table)
        ]
        if file.parent.name == "ablations":
            lines += [
                f"{name}:{size} {content_hash(load_config(f'{file}:{size}'))}"
                for size in module.SIZES
            ]
        if hasattr(module, "generators"):
            configs = {key: to_dict(config) for key, config in module.generators().items()}
            lines.append(f"{name} generators {content_hash(configs)}")
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDEN.write_text("".join(f"{line}\n" for line in sorted(lines)))
    changed = sorted(set(GOLDEN.read_text().splitlines()) ^ set(lines))
    assert not changed, f"review these and run UPDATE_GOLDENS=1 pytest {__file__}: {changed}"


@pytest.mark.parametrize("name", ALL)
def test_an_override_of_the_data_reaches_the_codecs_experiment(name):
    """Where a generator and its codec train on the same data, the two sections are one object."""
    config = load_config(f"experiments/{path(name)}")
    if config.generator:
        for part in ("train", "valid"):
            own, codecs = config.data[part], config.codec.experiment.data[part]
            assert own != codecs or own is codecs, f"data.{part}"


def path(name: str) -> str:
    """FILE.py:SIZE of FILE:SIZE."""
    return name.replace(":", ".py:")


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_cell_of_an_ablation_builds(name, tmp_path):
    file = f"experiments/ablations/{name}.py"
    ablation, config = read_ablation(file), load_config(file)
    assert set(config) == set(SECTIONS) and all(
        config[key.split(".")[0]].get(key.split(".")[1]) is not None for key in FIXED
    )
    runs = ablation_runs(config.to_dict(), ablation, (0,), tmp_path)
    assert [cell for cell, _ in runs] == list(ablation.cells)
    for run in runs.values():
        assert Program(run.experiment).parameters > 0, run.name


def test_layouts_of_the_ablation_divide_every_model_on_every_pod():
    """But for the smaller U-Net, of 5, 10, 15 and 20 heads and as many times 64 channels: that is
    said, and other layouts are left.
    """
    ablation = load_file("experiments/ablations/layouts.py")
    refused = {
        64: ["fsdp_tp:model=2"],
        256: [name for name in ablation.LAYOUTS if not name.startswith("group_sharded")],
    }
    for model in set(ablation.SIZES) - {"paper_dense"}:  # the paper's experts are as many of it
        experiment = build_experiment(load_config(f"experiments/ablations/layouts.py:{model}"))
        boxed = jax.eval_shape(experiment.trainable.init, jax.random.key(0))
        flat = jax.tree_util.tree_flatten_with_path(boxed, is_leaf=is_box)[0]
        shapes = {path_name(path): (box.names, box.value.shape) for path, box in flat}
        for devices in sorted({parse_topology(name).size for name in ablation.TOPOLOGIES}):
            for name, layout in parse_layouts(",".join(ablation.LAYOUTS)).items():
                bound = layout.bound(axis_lengths(boxed), devices)
                if model == "ablation" and name in refused[devices]:
                    with pytest.raises(UserError, match="Choose mesh sizes that divide these"):
                        bound.check(shapes, devices)
                    continue
                bound.check(shapes, devices)
                shards = math.prod(
                    n
                    for axis, n in bound.sizes(devices).items()
                    if axis in str(bound.compute["batch"])
                )
                assert experiment.training.batch_size % shards == 0, (model, devices, name)


def test_the_quickstart_fits_eight_devices_in_whole_groups_of_caption_rows():
    config = load_config("experiments/quickstart.py")
    assert (
        config.generator.caption_every == 2 and Program(build_experiment(config)).batch_shards == 8
    )
    config.training.batch_size = 8
    with pytest.raises(
        UserError,
        match=(
            r"training.batch_size=8: .* x 2 rows that belong together \(generator.caption_every\)"
        ),
    ):
        Program(build_experiment(config))


def count(name: str) -> dict[str, int]:
    file, size = name.split(":")
    experiment = build_experiment(load_config(f"experiments/{file}.py:{size}"))
    shapes = jax.eval_shape(experiment.trainable.init, jax.random.key(0))
    flat = jax.tree_util.tree_flatten_with_path(shapes, is_leaf=is_box)[0]
    return {path_name(p): math.prod(b.value.shape) for p, b in flat}


@pytest.mark.parametrize(("size", "layers", "width"), [("lite", 24, 1024), ("10b", 48, 4096)])
def test_trunk_parameters_match_the_paper(size, layers, width):
    counts = count(f"ernie_vilg:{size}")
    matrices = sum(
        n
        for name, n in counts.items()
        if "trunk" in name and name.rsplit("/", 1)[-1] in ("qkv", "out", "mlp_in", "mlp_out")
    )
    assert matrices == 12 * layers * width**2
    assert matrices == {"lite": 301_989_888, "10b": 9_663_676_416}[size]
    trunk = sum(n for name, n in counts.items() if "trunk" in name)
    assert trunk / matrices < 1.002, "norms and biases"


@pytest.mark.parametrize(
    ("size", "denoiser", "text"),
    [
        ("ablation", 874_459_524, 499_502_080),
        ("paper_dense", 2_238_159_876, 1_252_188_160),
        ("paper", 22_381_598_760, 1_252_188_160),
    ],
)
def test_ernie_vilg2_has_the_papers_parameters(size, denoiser, text):
    counts = count(f"ernie_vilg2:{size}")
    assert sum(n for name, n in counts.items() if name.startswith("denoiser/")) == denoiser
    assert sum(n for name, n in counts.items() if name.startswith("text/")) == text
    assert sum(counts.values()) == denoiser + text


@pytest.mark.parametrize(
    ("layout", "devices"), [("expert", {"expert": 2, "data": 4}), ("fsdp", {"data": 8})]
)
def test_ten_experts_are_sharded(layout, devices):
    """2 groups on 8 devices: the greatest common divisor of experts and devices."""
    program = Program(
        build_experiment(load_config("experiments/ernie_vilg2.py:paper")),
        layout=parse_layout(layout),
    )
    assert program.sizes == devices and program.sharded_fraction > 0.95


def test_a_batch_that_the_experts_do_not_divide_names_the_nearest():
    config = load_config("experiments/ernie_vilg2.py:paper")
    config.training.batch_size = 2048
    with pytest.raises(
        UserError,
        match=(
            r"training.batch_size=2048: .* x 10 rows .*\(generator.experts.n\); the nearest is 2040"
        ),
    ):
        Program(build_experiment(config))


def test_the_f8_8192_tokenizer_has_tamings_parameters():
    counts = count("tokenizer:f8_8192")
    assert sum(n for name, n in counts.items() if "discriminator" not in name) == 68_995_971


def test_the_kl_f8_autoencoder_has_the_published_parameters():
    counts = count("tokenizer:kl_f8")
    assert sum(n for name, n in counts.items() if "discriminator" not in name) == 83_653_863


def test_the_b16_ranker_has_clips_towers():
    counts = count("ranker:b16")
    for tower, width in (("image", 768), ("text", 512)):
        blocks = sum(n for name, n in counts.items() if name.startswith(f"{tower}/blocks"))
        assert blocks == 12 * (12 * width**2 + 13 * width), tower


@pytest.mark.parametrize(
    "layout", ["fsdp", "tp", "fsdp_tp:model=4", "zero2", "group_sharded:shard=4"]
)
def test_the_10b_model_is_sharded_by_every_sharding_layout(layout):
    experiment = build_experiment(load_config("experiments/ernie_vilg.py:10b"))
    program = Program(experiment, layout=parse_layout(layout))
    assert program.parameters > 9_663_676_416
    assert program.sharded_fraction > 0.95 or not program.layout.params
