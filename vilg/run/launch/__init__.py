"""vilg launch writes the files of a job that trains on a pod, a slice or a cluster.

    vilg launch gke --config=experiments/ernie_vilg.py:10b --topology=v5p:4x4x4 \\
        --workdir=gs://BUCKET/10b --image=REGISTRY/vilg --out=jobs/10b

  tpu_vm      queued resources: create.sh, run.sh (which orders, installs, trains and starts
              again), worker.sh, delete.sh
  gke         jobset.yaml for TPU node pools, Dockerfile, run.sh; xpk.sh, the same through XPK
  multislice  slices joined by the data-centre network, --topology=v5e:16x16,slices=2: both of the
              above, in gke/ and tpu_vm/
  slurm       train.sbatch for nodes with GPUs or CPUs
  sweep       the cells x seeds of a sweep's file (`vilg sweep`) as arrays of Slurm: sweep.sbatch,
              submit.sh

--out writes the files, --dry-run prints them. Every recipe repeats the same `vilg train` command
after an interruption such as preemption, but never after exit code 2, which is a mistake of the
user's.
"""

from vilg.run.launch.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
