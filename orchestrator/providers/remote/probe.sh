# Everything about one host, in one connection. Variables: ROOT, SITE. Sections start with "=== name".
echo "=== record"; cat "$ROOT/machine.json" 2>/dev/null
echo; echo "=== facts"
if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; then echo "manager systemd"; else echo "manager supervisor"; fi
[ -f "$ROOT/etc/context" ] && echo "context waiting"
if [ -f "$ROOT/etc/supervisord.conf" ]; then
  pid=$(cat "$ROOT/run/supervisord.pid" 2>/dev/null)
  if [ -n "$pid" ] && tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -Fqx "ORCHESTRATE_MACHINE=$ROOT"
  then :; else echo "supervisor dead"; fi
fi
# A worker whose context made it an agent: that runs under systemd, or in a loop of its own.
if [ -f "$ROOT/etc/context.done" ] && [ -f "$ROOT/etc/agent.json" ]; then
  unit=orchestrate-$SITE-agent.service
  if [ -f "/etc/systemd/system/$unit" ]; then
    case $(systemctl is-active "$unit") in active | activating | reloading) ;; *) echo "supervisor dead" ;; esac
  else
    pid=$(cat "$ROOT/run/agent-loop.pid" 2>/dev/null)
    if [ -n "$pid" ] && tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -Fqx "ORCHESTRATE_MACHINE=$ROOT"
    then :; else echo "supervisor dead"; fi
  fi
fi
echo "=== applied"; cat "$ROOT/etc/applied.json" 2>/dev/null
echo; echo "=== sums"
if [ -f "$ROOT/etc/applied.json" ]; then
  find "$ROOT/etc" "$ROOT/bin" /etc/systemd/system -maxdepth 3 -type f \
    \( -path "$ROOT/*" -o -name 'orchestrate-*' \) -exec sha256sum {} + 2>/dev/null
fi
echo "=== end"
