first=$((SLURM_ARRAY_TASK_ID * cells_per_task))
mapfile -t -s "$first" -n "$cells_per_task" cells < "$cells_file"

"${command[@]}" "${cells[@]}" &
child=$!
warned= asked=
trap 'warned=1 asked=1; kill -USR1 "$child"' USR1  # the time limit is near
trap 'asked=1; kill -TERM "$child"' TERM
code=
while [ -z "$code" ]; do # a signal interrupts the waiting, not the work
  asked=
  wait "$child"
  code=$?
  [ -z "$asked" ] || code=
done
restarts=${SLURM_RESTART_COUNT:-0}
if [ "$code" = "$requeue_code" ] && [ -n "$warned" ] && [ "$restarts" -lt "$requeues" ]; then
  # With the number of the array alone, all of its tasks would start again.
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
