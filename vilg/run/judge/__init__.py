"""vilg judge lets people rate pictures, captions or answers blindly, and reports the votes.

The raters see a page in a browser.

  vilg judge --samples=DIR_A,DIR_B --out=STUDY
      serves a page on which raters compare the two, until Ctrl-C
  vilg judge --samples=DIR_A,DIR_B --out=STUDY --static
      only makes STUDY/public, a page that can be sent as files
  vilg judge --out=STUDY --import=votes-....json
      adds the votes that a rater downloaded from such a page
  vilg judge --out=STUDY --report
      prints win rates or means, intervals and agreement, and writes STUDY/report.json

Protocols: pairs (ERNIE-ViLG 2.0: which of two pictures is better); images, captions and vqa
(ERNIE-ViLG 1.0: scores of one output). --samples are directories of `vilg sample`; for captions,
.jsonl files of `vilg caption`; for vqa, .jsonl files of image, question and answer. Raters see
STUDY/public only: STUDY/study.json says which model made what, and STUDY/votes.sqlite holds the
votes.
"""

from vilg.run.judge.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
