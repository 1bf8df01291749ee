"""What a tool left on a host, so that the hosts of two tools can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from peers.farm import ROOT
from tests.lab.hosts import Host

State = frozenset[str]
# Our book-keeping, and the script by which a peer starts the agent.
_OWN = ("etc/applied.json", "etc/context.done", "bin/service")
# Folders and files with their modes, but what programs made while they ran; the files whose content is the same
# on all hosts, by their sums; the services that run.
_SCRIPT = f"""cd {ROOT}
find . -maxdepth 3 \\( -path './data/*' -o -path './log/*' -o -path './run/*' \\) -prune -o -printf '%P %y %m\\n'
find data/agent data/www data/www/agent -maxdepth 0 -printf '%P %p %m\\n' 2>/dev/null
sha256sum bin/agent data/www/agent/* etc/supervisord.conf 2>/dev/null
stat -c '%n %s bytes' etc/supervisor.d/* 2>/dev/null
wc -l bin/start bin/python 2>/dev/null
find /opt/orchestrate/runtime -type f ! -name '*.pyc' -printf '%s\\n' 2>/dev/null |
  awk '{{ n++; s += $1 }} END {{ if (n) print "runtime", n, "files", s, "bytes" }}'
tr '\\0' ' ' <etc/agent.json | grep -o '"[a-z_]*":'
[ -f run/agent-loop.pid ] && kill -0 "$(cat run/agent-loop.pid)" && echo the agent runs
for each in /proc/[0-9]*; do
  tr '\\0' '\\n' <"$each/cmdline" 2>/dev/null | grep -A1 -x orchestrator.wiring.vobox
done
true
"""


def state_of(host: Host) -> State:
    """Lines that should be the same whatever tool made them."""
    lines = host.run(_SCRIPT).splitlines()
    return frozenset(line for line in lines if not line.startswith(_OWN))


def compare(ours: Sequence[State], theirs: Sequence[State]) -> int:
    """How many hosts differ; each difference is printed."""
    many = 0
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
        many += mine != other
        for sign, lines in (("only ours", mine - other), ("only theirs", other - mine)):
            for line in sorted(lines):
                print(f"# host {number}: {sign}: {line}", flush=True)
    return many
