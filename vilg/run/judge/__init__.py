"""vilg judge: blind human rating of pictures, captions or answers in a browser, and what the votes
say.

  vilg judge --samples=DIR_A,DIR_B --out=STUDY            serves a page on which raters compare the two, until Ctrl-C
  vilg judge --samples=DIR_A,DIR_B --out=STUDY --static   only makes STUDY/public, a page to be sent as files
  vilg judge --out=STUDY --import=votes-....json          adds the votes that such a page let its rater download
  vilg judge --out=STUDY --report                         win rates or means, intervals, agreement; STUDY/report.json

Protocols: pairs (ERNIE-ViLG 2.0: which of two pictures is better), images, captions, vqa (ERNIE-ViLG 1.0: scores of one output).
--samples are directories of `vilg sample`; for captions .jsonl files of `vilg caption`; for vqa .jsonl files of image, question, answer.
Raters see STUDY/public only; which model made what is in STUDY/study.json, votes are in STUDY/votes.sqlite.
"""

from vilg.run.judge.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
