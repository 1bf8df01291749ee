"""Make the programs of a machine run as their files say, by supervisord or systemd.

What is new is started, what is no longer wanted is stopped, and only what changed is restarted: its
own file, or ``inputs`` (the digest of what it reads, which each running program carries in its
environment: a run that was killed half-way is noticed by the next). Fails with the last lines of the
log of each program that does not stay up.
"""

import glob
import http.client
import os
import socket
import struct
import subprocess
import time
import xmlrpc.client

UP, DOWN = {"RUNNING"}, {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}


def environment(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as content:
            return set(content.read().decode(errors="replace").split("\0"))
    except OSError:
        return set()


class Connection(http.client.HTTPConnection):
    """HTTP over supervisord's UNIX socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Transport(xmlrpc.client.Transport):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, host):  # noqa: ARG002
        return Connection(self.path)


class Ready:
    """Hears the programs of a machine say that they are up, as systemd does (sd_notify(3))."""

    def __init__(self, root):
        path = os.path.join(root, "run/notify")
        self.pids = set()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            if os.path.lexists(path):
                os.unlink(path)
            self.socket.bind(path)
        except OSError:  # too long a path: who stays up for a second is up
            pass

    def heard(self):
        """The processes that are ready."""
        while True:
            try:
                said, facts, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("iII")))
            except BlockingIOError:
                return self.pids
            for level, kind, data in facts:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and b"READY=1" in said.split(
                    b"\n"
                ):
                    self.pids.add(struct.unpack("iII", data)[0])


class Supervisor:
    """The programs under the machine's supervisord; each is a process group."""

    def __init__(self, root):
        self.root = root
        self.ready = Ready(root)
        with open(os.path.join(root, "etc/supervisord.conf")) as settings:
            lines = [line.split("=", 1)[1].strip() for line in settings if line.startswith("file =")]
        self.socket = lines[0].replace("%(ENV_ORCHESTRATE_ROOT)s", root)
        self.fresh = self.ensure()
        self.rpc = xmlrpc.client.ServerProxy("http://localhost", transport=Transport(self.socket)).supervisor

    def ensure(self):
        """Whether the supervisor had to be started: its programs then read everything as it is now."""
        try:
            with open(os.path.join(self.root, "run/supervisord.pid")) as file:
                pid = int(file.read())
        except (OSError, ValueError):
            pid = 0
        if pid and "ORCHESTRATE_MACHINE=" + self.root in environment(pid):
            return False
        start = os.path.join(self.root, "bin/start")
        if not os.path.exists(start):
            raise RuntimeError(f"the supervisor of {self.root} does not run; start the machine first")
        subprocess.run([start], check=True, capture_output=True, timeout=60)
        return True

    def states(self):
        found = {}
        for info in self.rpc.getAllProcessInfo():
            found.setdefault(info["group"], []).append((info["statename"], info["pid"]))
        return found

    def until(self, names, states, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            now = self.states()
            if all(state in states for name in names for state, _ in now.get(name, ())):
                return
            time.sleep(0.05)
        raise RuntimeError(f"did not stop within {seconds} s: {', '.join(sorted(names))}")

    def update(self, programs, restart):
        added, changed, removed = (set(names) for names in self.rpc.reloadConfig()[0])
        stale = {program["name"] for program in programs if restart and program["reads"] and not self.fresh}
        again = stale - added - changed
        there = set(self.states())
        stopping = (changed | removed | again) & there
        for name in sorted(stopping):
            self.rpc.stopProcessGroup(name, False)
        self.until(stopping, DOWN)
        for name in sorted((changed | removed) & there):
            self.rpc.removeProcessGroup(name)
        for name in sorted(added | changed):
            self.rpc.addProcessGroup(name)
        dead = {name for name, seen in self.states().items() if any(state in DOWN for state, _ in seen)}
        for name in sorted((again | dead) & {program["name"] for program in programs} - added - changed):
            self.rpc.startProcessGroup(name, False)
            again.add(name)
        started = there if self.fresh else set()
        return sorted(started | added | changed | removed | again)

    def not_up(self, programs):
        now, ready = self.states(), self.ready.heard()

        def up(state, pid):
            return state in UP or (state == "STARTING" and pid in ready)

        return [
            p["name"]
            for p in programs
            if not now.get(p["name"]) or not all(up(*each) for each in now[p["name"]])
        ]


class Systemd:
    """The programs as systemd units orchestrate-<site>-<program>.service."""

    FOLDER = "/etc/systemd/system"
    SEEN = "Id,UnitFileState,ActiveState,MainPID,ExecMainStartTimestampMonotonic"

    def __init__(self, root, site, inputs):
        self.root = root
        self.prefix = f"orchestrate-{site}-"
        self.inputs = inputs

    def systemctl(self, *arguments):
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def units(self, program):
        count = program["processes"]
        numbers = [""] if count == 1 else [f"-{number}" for number in range(1, count + 1)]
        return [f"{self.prefix}{program['name']}{number}.service" for number in numbers]

    def show(self, units):
        blocks = self.systemctl("show", "-p", self.SEEN, *units).strip().split("\n\n")
        facts = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
        return {fact["Id"]: fact for fact in facts}

    def strangers(self, wanted):
        """Units of this machine that are not wanted. The name alone does not tell: another site's may begin alike."""
        for path in glob.glob(os.path.join(self.FOLDER, glob.escape(self.prefix) + "*.service")):
            with open(path) as unit:
                mine = f'"ORCHESTRATE_MACHINE={self.root}"' in unit.read()
            if mine and os.path.basename(path) not in wanted:
                yield path

    def update(self, programs, restart):
        wanted = {unit: program for program in programs for unit in self.units(program)}
        done = []
        for path in list(self.strangers(wanted)):
            self.systemctl("disable", "--now", os.path.basename(path))
            os.unlink(path)
            done.append(os.path.basename(path))
        self.systemctl("daemon-reload")
        seen = self.show(wanted)
        if off := [unit for unit in wanted if seen[unit]["UnitFileState"] != "enabled"]:
            self.systemctl("enable", *off)
        again = []
        for unit, program in wanted.items():
            pid = int(seen[unit]["MainPID"] or 0)
            stale = program["reads"] and "ORCHESTRATE_INPUTS=" + self.inputs not in environment(pid)
            if not pid or stale or program["changed"] or (restart and program["reads"]):
                again.append(unit)
        if again:
            self.systemctl("restart", *again)
        return done + again

    def not_up(self, programs):
        """Up is what runs for a second: systemd calls a program active that will end at once."""
        seen = self.show([unit for program in programs for unit in self.units(program)])
        old = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6 - 1e6
        up = {
            unit
            for unit, fact in seen.items()
            if fact["ActiveState"] == "active" and int(fact["ExecMainStartTimestampMonotonic"] or 0) <= old
        }
        return [p["name"] for p in programs if not up.issuperset(self.units(p))]


def tail(root, name):
    try:
        with open(os.path.join(root, "log", name + ".log"), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 1500))
            return log.read().decode(errors="replace")
    except OSError:
        return "(no log)"


def run(root, site, manager, programs, inputs, restart, wait):
    """What was started, restarted or stopped. ``restart``: what they read was changed just now, so that all are
    restarted that read. Fails when one does not stay up within ``wait`` seconds."""
    chosen = Systemd(root, site, inputs) if manager == "systemd" else Supervisor(root)
    done = chosen.update(programs, restart)
    deadline = time.monotonic() + wait
    while down := chosen.not_up(programs):
        if time.monotonic() > deadline:
            logs = "\n".join(f"--- {name}.log\n{tail(root, name)}" for name in down)
            raise RuntimeError(f"does not stay up: {', '.join(down)}\n{logs}")
        time.sleep(0.05)
    return done
