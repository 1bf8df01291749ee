#!/usr/bin/python
"""Put many files in place in one step each, and say what changed.

A file is written beside its place and renamed, with its mode from the first byte on; a file that is
already right is not touched. ``only`` are patterns (below root) of which no other file may exist.
"""

import fnmatch
import hashlib
import os
import secrets

from ansible.module_utils.basic import AnsibleModule

FILE = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str", "required": True, "no_log": True},
    "mode": {"type": "str", "default": "0644"},
}
ARGUMENTS = {
    "root": {"type": "str", "required": True},
    "folders": {"type": "dict", "default": {}},
    "files": {"type": "list", "elements": "dict", "options": FILE, "default": []},
    "only": {"type": "list", "elements": "str", "default": []},
    "keep": {"type": "list", "elements": "str", "default": []},
}


def present(path, data, mode):
    try:
        with open(path, "rb") as existing:
            return existing.read() == data and (os.fstat(existing.fileno()).st_mode & 0o7777) == mode
    except OSError:
        return False


def write(path, data, mode):
    part = os.path.join(os.path.dirname(path), ".%s.%s" % (os.path.basename(path), secrets.token_hex(4)))
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(descriptor, mode)
            out.write(data)
            out.flush()
            os.fsync(descriptor)
        os.rename(part, path)
    except BaseException:
        os.unlink(part)
        raise


def folders(root, wanted, check):
    changed = []
    for name, mode in wanted.items():
        path, bits = os.path.join(root, name), int(mode, 8)
        if not os.path.isdir(path) or (os.stat(path).st_mode & 0o7777) != bits:
            changed.append(name + "/")
            if not check:
                os.makedirs(path, exist_ok=True)
                os.chmod(path, bits)
    return changed


def strangers(root, patterns, known):
    for pattern in patterns:
        folder = os.path.join(root, os.path.dirname(pattern))
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if fnmatch.fnmatch(name, os.path.basename(pattern)) and path not in known and os.path.isfile(path):
                yield path


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    root, check = module.params["root"], module.check_mode
    sums, known = {}, {os.path.join(root, name) for name in module.params["keep"]}
    try:
        changed = folders(root, module.params["folders"], check)
        for file in module.params["files"]:
            path, data, mode = os.path.join(root, file["path"]), file["content"].encode(), int(file["mode"], 8)
            known.add(path)
            sums[file["path"]] = hashlib.sha256(data).hexdigest()
            if not present(path, data, mode):
                changed.append(file["path"])
                if not check:
                    write(path, data, mode)
        for path in strangers(root, module.params["only"], known):
            changed.append(os.path.relpath(path, root))
            if not check:
                os.unlink(path)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename, error.strerror), invocation={})
    module.exit_json(changed=bool(changed), what=changed, sums=sums, invocation={})


if __name__ == "__main__":
    main()
