"""vilg compare: generators on the same data, text, codec and training compute, evaluated by one
path and put on one page.

  vilg compare --config=experiments/compare_quickstart.py --out=DIR
      trains the runs that are missing, then compares
  vilg compare --workdirs=NAME=DIR,NAME=DIR,... --out=DIR
      compares finished runs; a NAME given twice is two training seeds

The file of --config is an experiment's. Beside get_config, which gives the first contender, it has

  generators  a function of the config size: {name: config}; all contenders use the data, the
              codec, the layout and the seed of the first
  BUDGET      the training budget of each run: "flops:3e13" (matrix products and convolutions),
              "images:48000", or "seconds:600" (of this machine; timed once and kept)
  SEEDS       training seeds (default 0)
  SAMPLING    {name: settings}, each a mapping of options of the sampler or fields of the evaluator
              that samples: the points of the curve of quality against the cost of sampling
  RANKER      the config of a ranker (experiments/ranker.py), trained into DIR/ranker; the ranker
              chooses among the samples where a setting has best_of

DIR/NAME/SEED are workdirs that every verb accepts, DIR/samples/NAME holds the pictures,
DIR/report.json the numbers, DIR/index.html opens offline. What is finished is not done again; a
second run gives the same numbers, but for those in seconds."""

from vilg.run.compare.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
