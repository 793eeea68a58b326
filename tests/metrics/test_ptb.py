"""English words against the answers of pycocoevalcap's PTBTokenizer (Stanford CoreNLP 3.4.1,
-lowerCase, Java 17) to the same text."""

import shutil

import pytest

from vilg.metrics.ptb import ptb_words

ANSWERED = {
    "A man's dog isn't here, and he can't go.": "a man 's dog is n't here and he ca n't go",
    "They're sure we've said it's 'done', I'd say; she'll cannot!": (
        "they 're sure we 've said it 's done i 'd say she 'll can not"
    ),
    "don’t it’s “curly” ‘quotes’ – and — dashes…": "do n't it 's curly quotes and dashes",
    "dogs' toys, women's cats'. 1980's '80s 60s'": "dogs toys women 's cats 1980 's '80s 60s",
    "gonna wanna gotta lemme gimme 'tis y'all o'clock o'neil": (
        "gon na wan na got ta lem me gim me 't is y' all o'clock o'neil"
    ),
    "rock 'n' roll 'n' 'em 'til 'cause": "rock 'n' roll 'n' 'em 'til 'cause",
    "The U.S. flag at 10 a.m. in Washington D.C.": "the u.s. flag at 10 a.m. in washington d.c.",
    "Mr. Smith vs. Dr. No, St. Louis etc.": "mr. smith vs. dr. no st. louis etc.",
    "a red jet on the sun. Men sat.": "a red jet on the sun men sat",
    "Vitamin C. and the letter B.": "vitamin c. and the letter b.",
    "Room A. Then he": "room a then he",
    "No. 5 is no. A no": "no. 5 is no a no",
    "black-and-white T-shirt, 10-year-old, 5-foot, 555-1234": (
        "black-and-white t-shirt 10-year-old 5-foot 555-1234"
    ),
    "well- known -known a - b -- c a--b": "well known known a b c a b",
    "(a man) [x] {y}": "-lrb- a man -rrb- -lsb- x -rsb- -lcb- y -rcb-",
    "what?! no!!! Yahoo! hey?": "what ?! no !!! yahoo hey",
    "1,000.50 3.14 3/4 5:30 5:30pm 10am 7th 1.5 5. 5,": (
        "1,000.50 3.14 3/4 5:30 5:30 pm 10am 7th 1.5 5 5"
    ),
    "½ cup 2½ £5 €5 50¢ $5.50 50% #1": "1/2 cup 2 1/2 # 5 $ 5 50 cents $ 5.50 50 % # 1",
    "6' tall 12\" wide 3x5 4x4s 45°C -5 +5": "6 tall 12 wide 3x5 4x4s 45 ° c -5 +5",
    "and/or he/she b/w w/ a/b/c A&B AT&T a & b": "and/or he/she b/w w / a/b/c a&b at&t a & b",
    "www.coco.org me@x.org http://a.b/c?d=e end.Start @user #tag": (
        "www.coco.org me@x.org http://a.b/c?d=e end.start @user #tag"
    ),
    ":) ;-) :D <b>tag</b> &amp; a_b *a*": ":-rrb- ;--rrb- :d <b> tag </b> & a_b * a *",
    "café naïve 😀 ★ 3D A1": "café naïve ★ 3d a1",
    "...": "",
    "": "",
}


@pytest.mark.parametrize("text", ANSWERED)
def test_words_are_the_tokenizers(text):
    assert ptb_words(text) == ANSWERED[text].split()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="the real tokenizer is a Java program")
def test_the_table_is_what_the_real_tokenizer_answers():
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = [text for text in ANSWERED if text]
    answers = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    assert [answers[i][0].split() for i in range(len(texts))] == [
        ANSWERED[text].split() for text in texts
    ]
