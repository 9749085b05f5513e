# The launcher of one memory-only process: its engines live and end together, and its exit code is that of the first.
#   launcher.sh DIRECTORY PROGRAM NAME...        started by parent.sh, in a session of its own
# The files of each engine are in DIRECTORY/NAME. All stay in the launcher's process group, so that one kill ends all.
# Descriptor 3 is the directory's lock; only the launcher and the engines keep it. A portable shell cannot wait for
# whichever child ends first, so each engine holds a pipe of its own open (4), and its reader tells of its end (to 5).
cd "$1" || exit 1
program=$2; shift 2
pids=
trap 'kill -TERM $pids 2>/dev/null' TERM INT HUP
rm -f ends; mkfifo ends || exit 1
exec 5<>ends
for name in "$@"; do
    rm -f "$name/alive"; mkfifo "$name/alive" || { kill -KILL $pids; exit 1; }
    exec 4<>"$name/alive" 6<"$name/alive"
    "$program" "$name/valkey.conf" 5>&- 6<&- &
    pid=$!; pids="$pids $pid"
    { trap '' TERM INT HUP; read -r nothing <&6; echo "$pid $name" >&5; } 3<&- 4<&- &
    exec 4<&- 6<&-
done
until read -r pid name <&5; do :; done      # a signal that was passed on ends a read early
echo "$name" >first
kill -KILL $pids 2>/dev/null
wait "$pid"
