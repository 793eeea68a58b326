"""vilg sweep: an ablation, every cell with every seed: trained, evaluated, and put into one table
and one plot.

The file of --config is an experiment's. Beside get_config, which gives what the cells share, it has

  CELLS      {cell: {dotted field: value}}, or a function of the config size; training.start_from
             may name an earlier cell
  SEEDS      whole numbers, which become `seed` and `data.loader.seed` (default 0, 1, 2)
  METRICS    {metric: its title}, as `vilg evaluate` names metrics, training/loss, and other numbers
             of the last line of a run's metrics.jsonl
  CONTROLS   {cell: the cell that it is compared with, seed by seed}
  TABLES     {title: cells}

DIR/CELL/SEED are workdirs that every verb accepts, DIR/codec is shared. Cells that differ in
nothing but `evals` share one run. DIR/sweep.json is written after every run, and what is in it is
not done again: the same command goes on where it was stopped. Tasks of a cluster, each with its own
cells and seeds, run at once with --task (`vilg launch sweep` writes them); the command without it
then gathers what they found."""

from vilg.run.sweep.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
