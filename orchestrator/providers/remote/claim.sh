# Make this host the machine of the record. Variables: ROOT, RECORD, CONTEXT (may be empty), ADDRESS, NAME.
# Prints "claimed" and goes on to the next script, or "taken" and ends when the host is another machine of the site.
set -e
umask 022
mkdir -p "$ROOT/etc/tls" "$ROOT/data" "$ROOT/log" "$ROOT/run" "$ROOT/bin"
chmod 0700 "$ROOT/run"
new="$ROOT/.machine.json.$$"
printf '%s\n' "$RECORD" >"$new"
umask 077
if ln "$new" "$ROOT/machine.json" 2>/dev/null; then :
elif ! grep -Fq "\"name\": \"$NAME\"" "$ROOT/machine.json"; then rm -f "$new"; echo taken; exit 0; fi
rm -f "$new"
export ORCHESTRATE_MACHINE="$ROOT" ORCHESTRATE_ROOT="$ROOT" ORCHESTRATE_ADDRESS="$ADDRESS"
if [ -n "$CONTEXT" ] && [ ! -f "$ROOT/etc/context.done" ]; then
  printf '%s\n' "$CONTEXT" >"$ROOT/etc/context.new"
  mv "$ROOT/etc/context.new" "$ROOT/etc/context"
fi
running=
if [ -f "$ROOT/run/context.pid" ]; then read -r running <"$ROOT/run/context.pid" || :; fi
if [ -f "$ROOT/etc/context" ] && { [ -z "$running" ] || ! kill -0 "$running" 2>/dev/null; }; then
  setsid sh -c 'cd "$ORCHESTRATE_ROOT"; umask 022; echo $$ >run/context.pid
    while [ -f etc/context ]; do
      if sh etc/context; then : >etc/context.done; rm -f etc/context; else sleep 5; fi
    done; rm -f run/context.pid' </dev/null >>"$ROOT/log/context.log" 2>&1 &
fi
if [ -x "$ROOT/bin/start" ]; then env -u ORCHESTRATE_MACHINE "$ROOT/bin/start"; fi
echo claimed
set +e
