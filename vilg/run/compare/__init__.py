"""vilg compare: trains generators on the same data, text, codec and training compute, evaluates
them in the same way, and shows the results on one page.

  vilg compare --config=experiments/compare_quickstart.py --out=DIR
      trains the runs that are missing, then compares
  vilg compare --workdirs=NAME=DIR,NAME=DIR,... --out=DIR
      compares finished runs; a NAME given twice is two training seeds

The file of --config is an experiment file. Its get_config returns the config of the first
contender; besides, it has

  generators  a function of the config size: {name: config}; all contenders use the data, the
              codec, the layout and the seed of the first contender
  BUDGET      the training budget of each run: "flops:3e13" (matrix products and convolutions),
              "images:48000", or "seconds:600" (of this machine; an update is timed once, and its
              time is stored)
  SEEDS       training seeds (default 0)
  SAMPLING    {name: settings}, each a mapping of options of the sampler or fields of the evaluator
              that samples: the points of the curve of quality against the cost of sampling
  RANKER      the config of a ranker (experiments/ranker.py), trained into DIR/ranker; the ranker
              chooses among the samples where a setting has best_of

DIR/NAME/SEED are workdirs that every verb accepts, DIR/samples/NAME holds the pictures,
DIR/report.json the numbers, and DIR/index.html opens offline. Finished work is not repeated; a
second run gives the same numbers, except those in seconds."""

from vilg.run.compare.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
