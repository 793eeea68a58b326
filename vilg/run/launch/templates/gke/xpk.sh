#!/usr/bin/env bash
# The same job through XPK (pip install xpk), which writes its own JobSet and queues it: instead of run.sh, after the image was pushed.
set -euo pipefail
xpk workload create --workload={{ name }} --cluster="${CLUSTER:?set CLUSTER}" --project="${PROJECT:?set PROJECT}" --zone="${ZONE:?set ZONE}" \
  --tpu-type={{ slice.accelerator }} --num-slices={{ slices }} --docker-image={{ image | quote }} \
  --max-restarts={{ restarts }} --restart-on-exit-codes=75,134,137,143{{ " --spot" if spot }} \
  --command={{ (environment_line ~ (command | command)) | quote }}
