#!/usr/bin/env bash
# Builds and pushes the image of the clone's HEAD (VILG_CLONE, default: the current directory) and starts the job on the current cluster of kubectl.
# To start a run again that has ended: the same command; it goes on from its checkpoint.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
git -C "${VILG_CLONE:-.}" archive --format=tar.gz HEAD | {
  context=$(mktemp -d)
  trap 'rm -rf "$context"' EXIT
  tar -xzf - -C "$context"
  docker build --file "$here/Dockerfile" --tag {{ image | quote }} "$context"
}
docker push {{ image | quote }}
kubectl delete jobset {{ name }} --ignore-not-found --wait
kubectl apply --filename "$here/jobset.yaml"
echo 'follow it with: kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name={{ name }},batch.kubernetes.io/job-completion-index=0' >&2
