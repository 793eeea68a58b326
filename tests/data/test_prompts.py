from pathlib import Path

import pytest

from vilg.data.prompts import Prompt, read_prompts
from vilg.types import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_line_of_text_is_a_prompt(tmp_path):
    file = write(tmp_path / "p.txt", "\ufeffa red dog\r\n\r\n  一只狗 \n")
    assert read_prompts(file) == [Prompt("a red dog", "en"), Prompt("一只狗", "zh")]


def test_tables_with_marks_quotes_and_chinese_headers(tmp_path):
    text = '\ufeffPrompt,文本,类别\r\n"a, ""big""\r\ndog",一只狗,动物\r\n,空,x\r\ncat,猫,\r\n'
    file = write(tmp_path / "p.csv", text)
    assert read_prompts(file) == [
        Prompt('a, "big" dog', "en", {"文本": "一只狗", "类别": "动物"}),
        Prompt("cat", "en", {"文本": "猫", "类别": ""}),
    ]
    assert [prompt.text for prompt in read_prompts(file, "文本")] == ["一只狗", "空", "猫"]
    chinese = write(tmp_path / "q.tsv", "类别\t文本\nx\ta dog\n")
    assert read_prompts(chinese) == [Prompt("a dog", "en", {"类别": "x"})]


def test_a_tsv_with_lone_quotes_is_read_unquoted(tmp_path):
    file = write(tmp_path / "p.tsv", 'Prompt\tn\n"Hi" she said\t1\na 3" pipe\t2\n')
    assert [prompt.text for prompt in read_prompts(file)] == ['"Hi" she said', 'a 3" pipe']


def test_json_lines_keep_their_fields(tmp_path):
    file = write(
        tmp_path / "p.jsonl",
        '{"prompt": "dog", "language": "zh", "tag": [1]}\n\n"a bare\u2028one"\n',
    )
    assert read_prompts(file) == [
        Prompt("dog", "zh", {"language": "zh", "tag": [1]}),
        Prompt("a bare one", "en"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "column", "named"),
    [
        ("p.doc", "x", "", "ends in"),
        ("p.txt", "\n \n", "", "no prompt"),
        ("p.txt", "a", "b", "no columns"),
        ("p.txt", b"ok\n\xff\xfe\n", "", "line 2 is not UTF-8"),
        ("p.csv", "a,b\n1,2\n", "", "--column: a, b"),
        ("p.csv", "prompt\nx\n", "text", "'text'"),
        ("p.csv", "prompt,b\nx,y,z\n", "", "line 2 has 3 cells"),
        ("p.csv", 'prompt\n"x\n', "", "quotes"),
        ("p.jsonl", "{", "", "line 1 is not JSON"),
        ("p.jsonl", "[1]", "", "not an object"),
        ("p.jsonl", '{"prompt": 3}', "", "not text"),
    ],
)
def test_mistakes_are_sentences(tmp_path, name, text, column, named):
    with pytest.raises(UserError, match=named):
        read_prompts(write(tmp_path / name, text), column)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


@pytest.mark.skipif(
    not (SHARED / "ViLG-300.csv").is_file(), reason="needs ../shared/data/ViLG-300.csv"
)
def test_vilg_300_is_read_whole():
    english, chinese = (
        read_prompts(SHARED / "ViLG-300.csv"),
        read_prompts(SHARED / "ViLG-300.csv", "文本"),
    )
    assert len(english) == len(chinese) == 300
    assert {prompt.language for prompt in chinese} == {"zh"} and {
        prompt.language for prompt in english
    } == {"en"}
    assert len({prompt.extra["类别"] for prompt in english}) == 16
    assert not any("\n" in prompt.text for prompt in english)


@pytest.mark.skipif(
    not (SHARED / "prompts" / "PartiPrompts.tsv").is_file(), reason="needs ../shared/data/prompts"
)
def test_parti_prompts_are_read_whole():
    assert len(read_prompts(SHARED / "prompts" / "PartiPrompts.tsv")) == 1632
