#!/bin/sh
# The job agent in one file: this text, then a gzip'ed tar of a Python, its packages and libraries.
# Wants of its host a Linux kernel, sh, tail, gzip, tar, mkdir, mv and rm; no Python, no C library.
# Unpacks once for each content into $ORCHESTRATE_AGENT_CACHE, else $TMPDIR, else the working
# directory; the next agents of the node find it there. Errors of a try are silenced by closing
# stderr, for there may be no /dev/null.
digest=@DIGEST@
offset=@OFFSET@
say() { echo "orchestrate-agent: $*" >&2; }

file=$0
case $file in */*) ;; *) if [ -f "./$file" ]; then file=./$file; else file=$(command -v -- "$file"); fi ;; esac
if [ ! -f "$file" ]; then say "cannot find its own file ($0); start it by its path"; exit 78; fi
machine=$(uname -m)
if [ "$machine" != @MACHINE@ ]; then say "made for @MACHINE@, this host is $machine; use its agent file"; exit 78; fi

# Makes $1/$digest whole. Several agents may do this at once: each unpacks aside, the first to rename wins.
unpack() {
  home=$1/$digest
  [ -f "$home/complete" ] && return 0
  work=$(mktemp -d "$1/.unpack.XXXXXX" 2>&-) || { work=$1/.unpack.$$ && mkdir "$work" 2>&-; } || return 1
  trap 'rm -rf "$work"; exit 143' HUP INT TERM
  printf '#!/bin/sh\n' >"$work/try" && chmod 700 "$work/try" && "$work/try" 2>&- \
    && mkdir "$work/$digest" \
    && tail -c +"$offset" "$file" | gzip -dc | tar -xmof - -C "$work/$digest" \
    && [ -f "$work/$digest/complete" ] && mv "$work/$digest" "$1/" 2>&-
  rm -rf "$work"
  trap - HUP INT TERM
  [ -f "$home/complete" ]
}

# A folder in $TMPDIR may have been put there by another user: take only our own.
ours() { (umask 077 && mkdir -p "$1") 2>&- && [ ! -L "$1" ] && [ -O "$1" ]; }

if [ -n "$ORCHESTRATE_AGENT_CACHE" ] && mkdir -p "$ORCHESTRATE_AGENT_CACHE" 2>&- && unpack "$ORCHESTRATE_AGENT_CACHE"; then :
elif [ -n "$TMPDIR" ] && base=$TMPDIR/orchestrate-agent-$(id -u) && ours "$base" && unpack "$base"; then :
elif base=$(pwd)/orchestrate-agent && ours "$base" && unpack "$base"; then :
else
  say "cannot unpack into \$ORCHESTRATE_AGENT_CACHE (${ORCHESTRATE_AGENT_CACHE:-not set}), \$TMPDIR (${TMPDIR:-not set}) or $(pwd):" \
    "it needs @MEBIBYTES@ MiB in a folder of ours where programs may run; set ORCHESTRATE_AGENT_CACHE to one"
  exit 75
fi
exec "$home/bin/python3" -m @ENTRY@ "$@"
