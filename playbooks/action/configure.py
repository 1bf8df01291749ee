"""Run host/configure.py on a host, by one connection and nothing left there.

The host's Python gets the modules and all that they are told (secrets too) by its standard input: nothing is
copied, and no module of Ansible's is loaded for it, which would cost more than the work itself.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from ansible.plugins.action import ActionBase

HOST = Path(__file__).resolve().parent.parent / "host"
MODULES = ("place", "programs", "configure")  # each imports only those before it
LOADER = """
import json, sys, types
told = json.load(sys.stdin)
for name, source in told.pop("modules"):
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(source, name + ".py", "exec"), module.__dict__)
print(json.dumps(module.configure(told)))
"""


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        told = dict(self._task.args)
        told["files"] = [_read(file) for file in told["files"]]
        told["modules"] = [(name, (HOST / f"{name}.py").read_text()) for name in MODULES]
        here = sys.executable if self._connection.transport == "local" else "python3"
        python = (task_vars or {}).get("ansible_python_interpreter", here)
        done = self._low_level_execute_command(
            f"{shlex.quote(python)} -I -c {shlex.quote(LOADER)}", in_data=json.dumps(told).encode()
        )
        try:
            result.update(json.loads(done["stdout"]))
        except ValueError:
            said = (done["stderr"] or done["stdout"]).strip()
            result.update(failed=True, msg=said[-2000:] or f"{python}: rc {done['rc']}")
        result["changed"] = bool(result.get("what"))
        return result


def _read(file):
    """With the content of its source, if it has one on this side."""
    if "source" not in file:
        return file
    return {
        "path": file["path"],
        "content": Path(file["source"]).read_text(),
        "mode": file.get("mode", "0644"),
    }
