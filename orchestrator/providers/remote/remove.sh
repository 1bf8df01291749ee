# Stop what is ours and remove it. Variables: ROOT, SITE, NAME, KEEP (1 keeps ROOT/data).
# Prints "gone" when the host is not (or no longer) the machine NAME.
[ -f "$ROOT/machine.json" ] || { echo gone; exit 0; }
grep -Fq "\"name\": \"$NAME\"" "$ROOT/machine.json" || { echo gone; exit 0; }
if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; then
  for unit in /etc/systemd/system/orchestrate-"$SITE"-*.service; do
    # Another site's name may begin as this one's.
    [ -f "$unit" ] && grep -Fq "\"ORCHESTRATE_MACHINE=$ROOT\"" "$unit" || continue
    systemctl disable --now "$(basename "$unit")" >/dev/null 2>&1
    rm -f "$unit"
  done
  systemctl daemon-reload
fi
mine() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -Fqx "ORCHESTRATE_MACHINE=$ROOT"; }
ours() {
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    [ "$pid" = "$$" ] || { mine "$pid" && echo "$pid"; }
  done 2>/dev/null
}
supervisor=$(cat "$ROOT/run/supervisord.pid" 2>/dev/null)
if [ -n "$supervisor" ] && mine "$supervisor"; then
  kill "$supervisor"
  n=0; while [ $n -lt 100 ] && mine "$supervisor"; do sleep 0.1; n=$((n + 1)); done
fi
pids=$(ours); [ -z "$pids" ] || kill $pids 2>/dev/null
n=0; while [ $n -lt 50 ] && [ -n "$(ours)" ]; do sleep 0.1; n=$((n + 1)); done
n=0; while [ $n -lt 50 ]; do
  pids=$(ours); [ -n "$pids" ] || break
  kill -9 $pids 2>/dev/null; sleep 0.1; n=$((n + 1))
done
for entry in "$ROOT"/* "$ROOT"/.[!.]*; do
  case "${entry##*/}" in machine.json) continue ;; data) [ "$KEEP" = 1 ] && continue ;; esac
  rm -rf "$entry"
done
rm -f "$ROOT/machine.json"
rmdir "$ROOT" 2>/dev/null
others=0
for other in "${ROOT%/*}"/*/machine.json; do [ -f "$other" ] && others=1; done
[ $others = 1 ] || rm -rf "${ROOT%/*}/runtime"
rmdir "${ROOT%/*}" 2>/dev/null
echo removed
