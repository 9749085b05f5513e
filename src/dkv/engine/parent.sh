# The waiting parent of one engine: it outlives the manager and writes the engine's pid and exit code down.
#   parent.sh RUN_DIRECTORY OOM_FILE PROGRAM ARGUMENT...      started by supervisor.py
# Standard input is the archive's lock (kept as 3, for the engine only), standard output the run directory's lock
# (kept as 4, for this parent only: while it is held, the exit code will still come). The engine gets a session of its
# own, so its process group holds it and its children and nothing else. Signals are ignored only after the engine was
# started, because ignored signals are inherited.
exec 3<&0 4>&1 0</dev/null 1>/dev/null
umask 077
cd "$1" || exit 1
oom=$2; shift 2
setsid "$@" 3<&3 4>&- >>engine.log 2>&1 &
pid=$!
exec 3<&-
trap '' HUP INT TERM QUIT
read -r stat </proc/$pid/stat
set -- ${stat##*) }
echo "$pid ${20}" >>born
wait $pid
code=$?
if [ -r "$oom" ]; then cat "$oom" >>oom; fi
echo $code >>exit
