import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vilg.data.batch import HOST_ONLY
from vilg.data.loader import Loader
from vilg.data.records import BadRecord
from vilg.types import UserError

SIZES = {"image_size": 8, "text_length": 24}


@dataclass(frozen=True)
class Made:
    """Record i has colour i and captions that contain i; `bad` are numbers of bad records."""

    n: int = 10
    bad: tuple[int, ...] = ()
    languages: tuple[str, ...] = ("zh", "en")

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i in self.bad:
            raise BadRecord(f"bad/{i}", "made so")
        texts = [
            {"text": f"图{i}", "language": "zh"},
            {"text": f"a {i}", "language": "en"},
            {"text": f"b {i}", "language": "en"},
        ]
        image = np.full((8, 12, 3), i % 100, np.uint8)
        image[:, :4] += 100
        return {
            "id": str(i),
            "image": image,
            "captions": [t for t in texts if t["language"] in self.languages],
            "scene": i,
        }


def take(stream, steps):
    return list(itertools.islice(stream, steps))


def same(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])


def test_a_batch_is_what_its_records_say(text_model):
    batch = next(Loader().stream(Made(), text_model, batch_size=4, **SIZES))
    assert batch["image"].shape == (4, 8, 8, 3) and batch["image"].dtype == np.uint8
    assert batch["text"].shape == (4, 24) and batch["text"].dtype == np.int32
    assert set(batch) - set(HOST_ONLY) == {"image", "text", "truncated"}
    for row in range(4):
        assert batch["image"][row, 0, 7, 0] == int(batch["ids"][row])
        assert text_model.decode(batch["text"][row]) == (
            batch["captions"][row],
            batch["language"][row],
        )
        assert batch["captions"][row].split()[-1].lstrip("图") == batch["ids"][row]


def test_every_epoch_has_every_record_once_in_another_order():
    ids = [
        id
        for batch in take(Loader().stream(Made(), None, batch_size=5, image_size=8), 6)
        for id in batch["ids"]
    ]
    epochs = [ids[k : k + 10] for k in (0, 10, 20)]
    assert all(sorted(epoch) == [str(i) for i in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    take(Loader(seed=2**40 - 7).stream(Made(), None, batch_size=5, image_size=8), 1)
    other = take(Loader(seed=1).stream(Made(), None, batch_size=10, image_size=8), 1)[0]["ids"]
    assert other != epochs[0]
    plain = take(Loader(shuffle=False).stream(Made(), None, batch_size=10, image_size=8), 2)
    assert plain[0]["ids"] == plain[1]["ids"] == [str(i) for i in range(10)]


def test_two_hosts_read_the_one_host_order_split(text_model):
    loader, source = Loader(random_crop=True, seed=3), Made(bad=(2, 3))
    whole = take(loader.stream(source, text_model, batch_size=6, **SIZES), 5)
    halves = [
        take(
            loader.stream(
                source, text_model, batch_size=6, process_index=p, process_count=2, **SIZES
            ),
            5,
        )
        for p in (0, 1)
    ]
    for k, batch in enumerate(whole):
        for name in batch:
            joined = [*halves[0][k][name], *halves[1][k][name]]
            np.testing.assert_array_equal(batch[name], joined)


def test_a_stream_resumes_at_any_step_through_json(text_model):
    loader, source = Loader(random_crop=True), Made(bad=(4,))
    stream = loader.stream(source, text_model, batch_size=3, **SIZES)
    expected = take(stream, 9)
    for step in (0, 1, 5, 8):
        first = loader.stream(source, text_model, batch_size=3, **SIZES)
        take(first, step)
        state = json.loads(json.dumps(first.get_state()))
        second = loader.stream(source, text_model, batch_size=3, **SIZES)
        take(second, 2)
        second.set_state(state)
        same(next(second), expected[step])
        assert second.step == step + 1 and second.get_state()["bad"] == stream.bad or step < 3
    two_hosts = loader.stream(
        source, text_model, batch_size=6, process_index=1, process_count=2, **SIZES
    )
    one_host = loader.stream(source, text_model, batch_size=6, **SIZES)
    take(one_host, 2)
    two_hosts.set_state(one_host.get_state())
    assert next(two_hosts)["ids"] == next(one_host)["ids"][3:]


def test_closing_does_not_lose_the_place():
    stream = Loader().stream(Made(), None, batch_size=3, image_size=8)
    expected = take(Loader().stream(Made(), None, batch_size=3, image_size=8), 4)
    for k in range(4):
        same(next(stream), expected[k])
        stream.close()
        assert stream.step == k + 1


@pytest.mark.parametrize(
    ("loader", "source", "sizes", "named"),
    [
        (Loader(seed=1), Made(), {}, "seed"),
        (Loader(shuffle=False), Made(), {}, "shuffle"),
        (Loader(), Made(n=11), {}, "source"),
        (Loader(), Made(), {"batch_size": 4}, "batch_size"),
        (Loader(languages=("zh",)), Made(), {}, "languages"),
        (Loader(random_crop=True), Made(), {}, "random_crop"),
        (Loader(), Made(), {"text_length": 25}, "text_length"),
    ],
)
def test_a_state_of_another_order_is_refused(text_model, loader, source, sizes, named):
    state = Loader().stream(Made(), text_model, batch_size=5, **SIZES).get_state()
    with pytest.raises(UserError, match=f"data {named}="):
        loader.stream(source, text_model, **{**SIZES, "batch_size": 5, **sizes}).set_state(state)


def test_captions_are_drawn_anew_each_epoch_and_evenly():
    batches = take(Loader().stream(Made(n=250), None, batch_size=250, image_size=8), 16)
    drawn = [caption for batch in batches for caption in batch["captions"]]
    zh = sum(caption.startswith("图") for caption in drawn)
    assert 0.45 < zh / len(drawn) < 0.55
    assert 0.2 < sum(caption.startswith("a ") for caption in drawn) / len(drawn) < 0.3
    assert {caption for caption in drawn if caption.lstrip("图ab ") == "7"} == {"图7", "a 7", "b 7"}
    english = take(Loader(languages=("en",)).stream(Made(), None, batch_size=10, image_size=8), 5)
    assert {language for batch in english for language in batch["language"]} == {"en"}


def test_shuffled_captions_are_another_records_every_time_the_same(text_model):
    loader = Loader(shuffle_captions=True)
    told: dict[str, set[str]] = {str(i): set() for i in range(10)}
    stream = loader.stream(Made(), text_model, batch_size=5, **SIZES)
    for batch in take(stream, 40):
        for row, (id, caption) in enumerate(zip(batch["ids"], batch["captions"], strict=True)):
            assert batch["image"][row, 0, 7, 0] == int(id)
            assert text_model.decode(batch["text"][row])[0] == caption
            told[id].add(caption.split()[-1].lstrip("图"))
    assert all(id not in others and len(others) > 4 for id, others in told.items())
    hosts = [
        next(
            loader.stream(
                Made(), None, batch_size=4, image_size=8, process_index=i, process_count=2
            )
        )
        for i in (0, 1)
    ]
    assert (
        sum((h["captions"] for h in hosts), [])
        == next(loader.stream(Made(), None, batch_size=4, image_size=8))["captions"]
    )
    with pytest.raises(UserError, match="shuffle_captions"):
        stream.set_state(Loader().stream(Made(), text_model, batch_size=5, **SIZES).get_state())
    once = next(loader.once(Made(), None, batch_size=4, image_size=8))
    assert all(
        c.split()[-1].lstrip("图") == id
        for id, c in zip(once["ids"], once["captions"], strict=True)
    )


def test_bad_records_are_named_counted_and_replaced(caplog):
    caplog.set_level(logging.WARNING, "vilg.data")
    stream = Loader(bad_record_limit=2, shuffle=False).stream(
        Made(bad=(4, 5)), None, batch_size=10, image_size=8
    )
    batches = take(stream, 3)
    assert batches[0]["ids"] == ["0", "1", "2", "3", "6", "6", "6", "7", "8", "9"]
    assert stream.bad == {"bad/4": "made so", "bad/5": "made so"}
    assert [
        message for message in caplog.messages if "bad/4" in message and "made so" in message
    ] and len(caplog.messages) == 2


@pytest.mark.parametrize(
    "source",
    [
        Made(bad=(1, 5, 9)),
        Made(n=2, bad=(0, 1)),
        Made(bad=tuple(range(10))),
        Made(languages=("zh",)),
    ],
)
def test_too_many_bad_records_stop_with_a_sentence(source):
    loader = Loader(bad_record_limit=2, languages=("en",))
    with pytest.raises(
        UserError, match=r"bad_record_limit=2: \d records are bad, the first are (bad/)?\d \("
    ):
        take(loader.stream(source, None, batch_size=5, image_size=8), 4)


def test_one_pass_covers_everything_once_in_order(text_model):
    batches = list(Loader(seed=9).once(Made(bad=(3,)), text_model, batch_size=4, **SIZES))
    assert [batch["image"].shape[0] for batch in batches] == [4, 4, 4]
    valid = [
        id
        for batch in batches
        for id, good in zip(batch["ids"], batch["valid"], strict=True)
        if good
    ]
    assert valid == [str(i) for i in range(10) if i != 3]
    assert batches[0]["records"][1] == {k: v for k, v in Made()[1].items() if k != "image"}
    halves = [
        [
            id
            for batch in Loader().once(
                Made(), None, batch_size=4, image_size=8, process_index=p, process_count=2, limit=5
            )
            for id, good in zip(batch["ids"], batch["valid"], strict=True)
            if good
        ]
        for p in (0, 1)
    ]
    assert halves == [["0", "1", "4"], ["2", "3"]]


def test_mistakes_are_sentences(text_model):
    for options in ({"languages": ()}, {"languages": ("fr",)}, {"prefetch": 0}, {"seed": 2**63}):
        with pytest.raises(UserError, match=next(iter(options))):
            Loader(**options)
    for options, named in (
        ({"batch_size": 5, "process_count": 2}, "batch_size=5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"text_length": 2}, "text_length=2"),
    ):
        with pytest.raises(UserError, match=named):
            Loader().stream(Made(), text_model, **{**SIZES, "batch_size": 4, **options})
    with pytest.raises(UserError, match="no records"):
        Loader().stream(Made(n=0), None, image_size=8, batch_size=1)


def test_worker_processes_give_the_same_batches(text_model):
    plain = Loader().stream(Made(), text_model, batch_size=3, **SIZES)
    parallel = Loader(workers=2, prefetch=1).stream(Made(), text_model, batch_size=3, **SIZES)
    for one, two in zip(take(plain, 3), take(parallel, 3), strict=True):
        same(one, two)
    assert plain.step == parallel.step == 3
    parallel.close()


def test_processes_that_make_batches_end_with_their_parent():
    program = """
import multiprocessing, time
from vilg.data.loader import Loader
from vilg.data.scenes.source import Synthetic

if __name__ == "__main__":
    stream = Loader(workers=2).stream(Synthetic(n=64), None, batch_size=2, image_size=32)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(100)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)

    def alive():
        found = {pid: Path(f"/proc/{pid}/stat") for pid in children}
        return [
            pid
            for pid, stat in found.items()
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
        ]

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and alive():
        time.sleep(0.2)
    left = alive()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(children) == 2 and not left
