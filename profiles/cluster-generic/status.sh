#!/usr/bin/env bash
# What became of one job: prints running, success or failed. For SLURM, with or without accounting.
if ! state=$(squeue --noheader --states=all --format=%T --jobs="$1" 2>&1); then
  case $state in
    *"Invalid job id"*) state=FORGOTTEN ;;
    *) state=PENDING ;;  # the scheduler does not answer: ask again later
  esac
fi
case $state in
  COMPLETED) echo success ;;
  PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | REQUEUED | RESIZING | STOPPED) echo running ;;
  *) echo failed ;;
esac
