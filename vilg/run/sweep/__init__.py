"""vilg sweep: an ablation. Every cell is trained and evaluated with every seed, and all results go
into one table and one plot.

The file of --config is an experiment file. Its get_config returns the config that the cells share;
besides, it has

  CELLS      {cell: {dotted field: value}}, or a function of the config size; training.start_from
             may name an earlier cell
  SEEDS      whole numbers, which become `seed` and `data.loader.seed` (default 0, 1, 2)
  METRICS    {metric: its title}, with the names of metrics that `vilg evaluate` uses,
             training/loss, and other numbers of the last line of a run's metrics.jsonl
  CONTROLS   {cell: the cell that it is compared with, seed by seed}
  TABLES     {title: cells}

DIR/CELL/SEED are workdirs that every verb accepts; all cells share DIR/codec. Cells that differ in
`evals` only share one run. DIR/sweep.json is written after every run, and its rows are not computed
again: the same command continues where it was stopped. With --task, several tasks of a cluster run
at once, each with its own cells and seeds (`vilg launch sweep` writes them); the command without
--task then gathers their results."""

from vilg.run.sweep.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
