"""Deliver the runtime and large files to a host by one connection, with nothing there but a shell, gzip and tar.

``archive`` (tar.gz on this side) is unpacked aside, tried, and renamed to ``runtime``; a host that has it is not
touched, and "" is no runtime at all. Of ``files`` (path below ``root``, source on this side, sha256, mode) only those
travel that are not there with that digest; each comes to its place in whole or not at all.
"""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

RUNTIME_WANTED = '[ -x "$runtime/bin/python3" ] || echo runtime\n'
UNPACK = """
umask 022
new="$runtime.new.$$"
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new" && gzip -dc | tar -xmof - -C "$new" || { echo "cannot unpack into $new" >&2; exit 1; }
"$new/bin/python3" -c '' || { echo "the runtime does not run on this host ($(uname -m))" >&2; exit 1; }
[ -e "$runtime" ] || mv "$new" "$runtime" || exit 1
rm -rf "$runtime/${new##*/}"  # another site's run was faster by a hair
"""
FILE_WANTED = (
    '[ "$(sha256sum 2>/dev/null <"$path")" = "$sha256  -" ] && chmod "$mode" "$path" || echo "$path"\n'
)
WRITE = """
umask 077
part="${path%/*}/.${path##*/}.$$"
trap 'rm -f "$part"' EXIT
trap 'exit 1' HUP INT TERM
(umask 022 && mkdir -p "${path%/*}") && cat >"$part" && chmod "$mode" "$part" || exit 1
[ "$(sha256sum <"$part")" = "$sha256  -" ] || { echo "$path did not come in whole" >&2; exit 1; }
mv "$part" "$path"
"""


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        told = self._task.args
        runtime = _variables(runtime=told["runtime"])
        files = {f"{told['root']}/{file['path']}": file for file in told["files"]}
        settings = {
            path: _variables(path=path, sha256=file["sha256"], mode=file["mode"])
            for path, file in files.items()
        }
        asked = runtime + RUNTIME_WANTED if told["runtime"] else ""
        asked += "".join(each + FILE_WANTED for each in settings.values())
        missing = self._shell_(asked).splitlines() if asked else []
        todo = [(settings[path] + WRITE, files[path]["source"]) for path in files.keys() & set(missing)]
        if "runtime" in missing:
            todo.append((runtime + UNPACK, told["archive"]))
        with ThreadPoolExecutor() as sending:  # files travel while the runtime is unpacked
            for done in [sending.submit(self._send, *each) for each in todo]:
                done.result()
        result["what"] = [files[path]["path"] if path in files else path for path in missing]
        result["changed"] = bool(missing)
        return result

    def _send(self, script, source):
        with open(source, "rb") as content:
            self._shell_(script, content.read())

    def _shell_(self, script, data=None):
        done = self._low_level_execute_command("/bin/sh -c " + shlex.quote(script), in_data=data)
        if done["rc"] != 0:
            raise AnsibleActionFail((done["stderr"] or done["stdout"]).strip() or f"rc {done['rc']}")
        return done["stdout"]


def _variables(**values):
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
