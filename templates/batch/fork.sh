#!/bin/sh
# One slot of the fork batch system: runs a command and notes who it is and how it ended.
# Usage: fork.sh DIRECTORY COMMAND [ARGUMENT...]
# DIRECTORY/pid:  "PID START" (START: field 22 of /proc/PID/stat, so a re-used PID is not taken for us)
# DIRECTORY/exit: the command's exit status, written when it has ended
slot=$1; shift
read -r stat <"/proc/$$/stat"
# After the command's name in brackets: field 3 is $1 here, so field 22 is $20.
start=$(set -- ${stat##*\) }; shift 19; echo "$1")
echo "$$ $start" >"$slot/pid.new" && mv "$slot/pid.new" "$slot/pid" || exit 73
# Only now: who cancels marks first and then looks for our pid, so one of us sees the other.
[ -e "$slot/cancelled" ] && { echo 143 >"$slot/exit"; exit 143; }
"$@" &
child=$!
# Not before: a child that inherits the trap for a moment would swallow a signal to the whole group.
trap 'kill -TERM "$child" 2>/dev/null' TERM INT HUP
while :; do
  wait "$child"
  status=$?
  kill -0 "$child" 2>/dev/null || break  # else a signal has ended the wait, not the command
done
echo "$status" >"$slot/exit.new" && mv "$slot/exit.new" "$slot/exit"
exit "$status"
