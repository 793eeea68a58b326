"""vilg score ACTION scores outputs of any model; no run of vilg is needed. It writes JSON:
{"metrics": {...}, "protocol": {...}}.

  captions  --predictions=FILE.jsonl --references=FILE --language=zh --unit=char --out=FILE.json
            BLEU-1..4, METEOR, ROUGE-L, CIDEr, SPICE of captions against references
  images    --images=DIR --reference=DIR --out=FILE.json
            pictures against a set of reference pictures, or against their prompts

`vilg score ACTION --help` explains each."""

from vilg.run.score.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
