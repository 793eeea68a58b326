"""English words by the rules of the Penn Treebank, in lower case and without punctuation: the words
that pycocoevalcap's PTBTokenizer gives, without Java.

pycocoevalcap pipes captions through Stanford CoreNLP 3.4.1's PTBTokenizer (-lowerCase) and then
drops PUNCTUATION. The rules here were written from that program's answers, not from its source.
They keep its habits, which are in published scores: brackets become words such as -lrb- (the list
of punctuation has them in capitals only), runs of ! and ? are words, and a pound sign becomes #."""

import re

PUNCTUATION = frozenset(
    [
        "''",
        "'",
        "``",
        "`",
        "-LRB-",
        "-RRB-",
        "-LCB-",
        "-RCB-",
        ".",
        "?",
        "!",
        ",",
        ":",
        "-",
        "--",
        "...",
        ";",
    ]
)

BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
SIGNS = {
    "£": "#",
    "€": "$",
    "¢": "cents",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    **BRACKETS,
    **FRACTIONS,
}
# words that become two, and the number of letters of the first
SPLIT = {"cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "lemme": 3, "gimme": 3}

TITLES = (
    "mr mrs ms miss drs? profs? sens? reps? atty lt col gen messrs govs? adm rev maj sgt cpl pvt mt"
    " capt ste? ave pres lieut hon brig co?mdr pfc spc supts? det jr sr bros esq ph est ext tel"
    " blvd rd sq bldg seq mfg vs al cf etc ft"
)
COMPANIES = "inc cos? corp pty ltd plc rt bancorp dept bhd assn univ intl sys"
DATES = "jan feb mar apr jun jul aug sept? oct nov dec mon tues? wed thu thurs fri"
STATES = (
    "calif conn fla va ariz ala colo ga ind kan ky md mich minn mo mont neb nev okla penn tenn vt"
    " wis wyo"
)
CAPITAL = "Mass Ill Pa Wash Ore Tex Ark Del La"  # abbreviations only with a capital letter
NUMBERED = "nos? prop ca figs? pp art"  # abbreviations only before a number
# after a single letter and a full stop, these words start a new sentence
STARTERS = (
    "The A An He She It This That There They We I You But In At As One Some Many After When While"
    " Her Their Our These Then Here What If So Now However"
)

# a character of a word: a letter or a decimal digit of any script (not ² or ½)
W = r"[^\W_²³¹½¼¾⅓⅔\U00010000-\U0010ffff]"
NUMBER = r"(?:\d+(?:[.,:/]\d+)*)"
SUFFIX = r"['’](?:s|m|d|re|ve|ll)(?!\w)"
NOT = r"n['’]t(?!\w)"
WITH_APOSTROPHE = (
    rf"(?:o['’]clock|ma['’]am|ne['’]er|[odl]['’](?!(?:s|m|d|re|ve|ll|t)(?!\w)){W}{{2,}})"
)
PIECE = rf"(?:{WITH_APOSTROPHE}|{W}+?(?={NOT})|{W}+)"


def any_of(words: str) -> str:
    """A regular expression that matches any of the words."""
    return f"(?:{'|'.join(words.split())})"


# regular expressions of tokens; at each place the first that matches is taken
RULES = (
    r"</?[a-z][a-z0-9]*\s?/?>|<[a-z]+(?:\s[a-z]+=\"[^\"<>]*\")+\s?/?>",  # tags
    r"&(?:amp|lt|gt|quot|nbsp|apos);|&\#\d+;",
    r"https?://[^\s\"<>()]*[^\s\"<>().,;:!?']",
    rf"{W}[\w.+-]*@{W}+(?:[.-]{W}+)*\.[a-z]{{2,}}",  # mail
    r"[\#@][a-z_]\w*",
    r"[:;=]-?[()dp](?![^\W_])|\^_\^",  # faces
    r"\(\d{3}\)(?=[ ]?\d{3}-\d{4}(?!\d))",  # telephones
    r"(?:[a-z]\.){2,}(?:-[a-z]+)+",  # u.s.-made
    rf"(?<![\w'’])(?:[a-z]\.){{2,}}(?!{W})|ph\.d\.(?!{W})",  # acronyms
    rf"(?<![\w'’])[a-z]\.(?=\s*$|\s+(?!(?-i:{any_of(STARTERS)}\b))|[,;:)\"'”’])",  # vitamin c.
    rf"[a-z]{W}*(?:\.[a-z]{W}*)+(?:(?<=[a-z])-{W}+)*",  # coco.com
    rf"(?<!\w){any_of(' '.join((TITLES, COMPANIES, DATES, STATES)))}\.(?!\w)"
    rf"|(?<!\w)(?-i:{any_of(CAPITAL)})\.(?!\w)",
    rf"(?<!\w){any_of(NUMBERED)}\.(?=\s*\d)",
    r"\d{4}(?=-\d\d-\d\d(?!\d))|-\d\d(?=-\d\d(?!\d))",  # 2014-12-25 comes apart
    rf"{NUMBER}(?:-{W}*[a-z]{W}*|-\d+(?![\d:]))+",  # 5-foot, 555-1234
    r"[+-]?\d+(?:[.,:/]\d+)+(?:(?<=/\d)(?:rd|th|s)\b)?",
    rf"(?<!{W})[+-]\d+(?!{W})|\+\d+(?!{W})",
    rf"[.,:]\d+(?!{W})|[.,:]\d+(?=[a-z])",
    r"(?<![\w'’])['’]\d\ds?(?![\w'’\"])|(?<=\d)['’]\d\d(?![\w'’\"])",  # '80s, 5'10
    rf"(?-i:[A-Z]+&[A-Z]+)(?!{W})",  # r&b
    r"(?<!\w)(?-i:C)(?:\+\+|\#)|(?<!\w)(?-i:US|A|C|NZ|HK)\$",
    rf"(?:{any_of(' '.join(SPLIT))})(?!\w)",
    r"'t(?=is(?!\w)|was(?!\w))|y['’](?=all(?!\w))",
    rf"{SUFFIX}|{NOT}|(?<!\w)['’](?:em|til|cause|n['’]?)(?!\w)|['’]n['’]",
    rf"{PIECE}(?:_{W}+)+",
    rf"{W}+(?:[!?]+{W}+)+",
    rf"{W}+?(?=['’]n['’]{W})",
    rf"{PIECE}(?:-{PIECE})+|{W}+(?:/{W}+)+|{PIECE}",
    r"[$£€¥¢]",
    r"\.{3,}|-{2,4}(?!-)|-+|[!?]+|\*+|_+|``|''|.",
)
TOKEN = re.compile("|".join(RULES), re.IGNORECASE)


def ptb_words(text: str) -> list[str]:
    """The words of an English caption, lower case, without punctuation."""
    words = []
    for found in TOKEN.finditer(text):
        words += [
            word
            for token in normalized(found[0])
            for word in token.split()
            if word not in PUNCTUATION
        ]
    return words


def normalized(token: str) -> list[str]:
    """A token as the tokenizer writes it: lower case, plain apostrophes, ASCII signs; split where
    the tokenizer splits it, and nothing where it leaves the token out.
    """
    token = token.lower()
    if token in SPLIT:
        return [token[: SPLIT[token]], token[SPLIT[token] :]]
    if token in SIGNS:
        return [SIGNS[token]]
    if (
        token in ('"', "“", "”", "«", "»", "&quot;", "‘", "’", "–", "—", "…", "&apos;", "&nbsp;")
        or token.isspace()
        or ord(token[0]) > 0xFFFF
    ):
        return []  # punctuation, and characters that the tokenizer leaves out
    if token[0] == "(" and token[1:].startswith(tuple("0123456789")):
        return [f"-lrb-{token[1:-1]}-rrb-"]
    if re.fullmatch(r"[:;=]-?[()]", token):
        return [token[:-1] + BRACKETS[token[-1]]]
    if re.fullmatch(r"\.{3,}|-{2,4}", token):
        return []
    if token[-1] in "£€" and len(token) > 1:
        return [token[:-1] + SIGNS[token[-1]]]
    if re.fullmatch(rf"{SUFFIX}|{NOT}|['’].*", token):
        return [token.replace("’", "'") if not re.match(r"’(\d|n|e|c)", token) else token]
    return [token]
