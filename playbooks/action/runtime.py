"""Deliver the runtime to a host by one connection, with nothing there but a shell, gzip and tar.

``archive`` (tar.gz on this side) is unpacked aside, tried, and renamed to ``home``; a host that has it is
not touched. With ``tidy`` the other runtimes beside ``home`` go that no machine and no process of the host uses.
"""

from __future__ import annotations

import shlex

from ansible.plugins.action import ActionBase

UNPACK = """
umask 022
new="$home.new.$$"
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new" && gzip -dc | tar -xmof - -C "$new" || { echo "cannot unpack into $new" >&2; exit 1; }
"$new/bin/python3" -c '' || { echo "the runtime does not run on this host ($(uname -m))" >&2; exit 1; }
[ -e "$home" ] || mv "$new" "$home" || exit 1
rm -rf "$home/${new##*/}"  # another site's run was faster by a hair
"""
TIDY = """
cd "${home%/*}" 2>/dev/null || exit 0
for other in *; do
  [ -d "$other" ] && [ "$other" != "${home##*/}" ] || continue
  grep -Fqs "/runtime/$other/" ../*/bin/python && continue
  ls -l /proc/[0-9]*/exe /proc/[0-9]*/cwd 2>/dev/null | grep -Fq "/runtime/$other" && continue
  rm -rf "$other" && echo "$other"
done
"""


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        home = f"home={shlex.quote(self._task.args['home'])}\n"
        if self._task.args.get("tidy"):
            done = self._shell_(home + TIDY)
            result["what"] = [f"runtime {name} is gone" for name in done["stdout"].split()]
        else:
            done = self._shell_(home + '[ -x "$home/bin/python3" ]')
            if done["rc"] == 0:
                return result
            if self._task.check_mode:
                result["changed"] = True
                return result
            with open(self._task.args["archive"], "rb") as archive:
                done = self._shell_(home + UNPACK, archive.read())
            result["what"] = ["runtime"]
        if done["rc"] != 0:
            result.update(failed=True, msg=(done["stderr"] or done["stdout"]).strip() or f"rc {done['rc']}")
        result["changed"] = bool(result["what"])
        return result

    def _shell_(self, script, data=None):
        return self._low_level_execute_command("/bin/sh -c " + shlex.quote(script), in_data=data)
