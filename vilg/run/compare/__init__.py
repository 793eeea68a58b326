"""vilg compare: generators on the same data, text, codec and training compute, evaluated by one
path and put on one page.

  vilg compare --config=experiments/compare_quickstart.py --out=DIR      trains what is missing, then compares
  vilg compare --workdirs=NAME=DIR,NAME=DIR,... --out=DIR                compares runs that are there; a NAME twice is two seeds

The file of --config is an experiment's. Beside get_config, which gives the first contender, it has

  generators  a function of the config size: {name: config}; data, codec, layout and seed are the first's in all
  BUDGET      what each run may spend on training: "flops:3e13" (matrix products and convolutions), "images:48000", or "seconds:600" (of
              this machine; timed once and kept)
  SEEDS       training seeds (default 0)
  SAMPLING    {name: settings}, each a mapping of fields of the evaluator that samples: the curve of quality against the cost of sampling
  RANKER      the config of a ranker (experiments/ranker.py), trained into DIR/ranker, which chooses where a setting has best_of

DIR/NAME/SEED are workdirs that every verb accepts, DIR/samples/NAME holds the pictures,
DIR/report.json the numbers, DIR/index.html opens offline. What is finished is not done again; a
second run gives the same numbers, but for those in seconds."""

from vilg.run.compare.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
