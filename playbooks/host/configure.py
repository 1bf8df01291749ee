"""Bring this machine to what it was told: files, programs, and last the record that says so."""

import glob
import json
import os
import re
import subprocess
import xmlrpc.client

from place import place
from programs import run


def configure(told):
    """{"what": all that changed}, or {"failed": true, "msg"}."""
    try:
        return {"what": steps(told)}
    except (RuntimeError, OSError, subprocess.SubprocessError, xmlrpc.client.Error) as error:
        return {"failed": True, "msg": str(error)}


def steps(told):
    root, read = told["root"], {file["path"] for file in told["files"]}
    changed, sums = place(
        root, told["folders"], told["files"] + told["program_files"], told["only"], told["keep"]
    )
    ran = run(
        root,
        told["site"],
        told["manager"],
        [complete(program, changed) for program in told["programs"]],
        told["inputs"],
        not read.isdisjoint(changed),
        told["wait"],
    )
    gone = tidy(told["runtime"]) if told["runtime"] else []
    record = json.dumps({"digest": told["digest"], "files": sums}, indent=4, sort_keys=True) + "\n"
    recorded, _ = place(root, {}, [{"path": "etc/applied.json", "content": record}], [], [])
    return changed + ran + gone + recorded


def complete(program, changed):
    """With all that a program may leave unsaid, and whether a unit of it has changed."""
    units = re.compile(f"-{re.escape(program['name'])}(-[0-9]+)?[.]service$")
    known = {"processes": int(program.get("processes", 1)), "changed": any(map(units.search, changed))}
    return {"reads": True, **program, **known}


def tidy(home):
    """Remove the other runtimes beside ``home`` that no machine and no process of this host uses."""
    folder, mine = os.path.split(home)
    others = [entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name != mine]
    if not others:
        return []
    used = []
    for path in glob.glob(os.path.join(os.path.dirname(folder), "*/bin/python")):
        with open(path) as script:
            used.append(script.read())
    for link in glob.glob("/proc/[0-9]*/exe") + glob.glob("/proc/[0-9]*/cwd"):
        try:
            used.append(os.readlink(link) + "/")
        except OSError:  # it has ended
            continue
    gone = [name for name in others if not any(f"/runtime/{name}/" in path for path in used)]
    for name in gone:
        subprocess.run(["rm", "-rf", os.path.join(folder, name)], check=True, capture_output=True, timeout=60)
    return [f"runtime {name} is gone" for name in gone]
