"""Put many files in place, and say what changed.

A file is written beside its place and renamed, with its mode from the first byte on; a file that is
already right is not touched.
"""

import fnmatch
import hashlib
import os
import secrets


def place(root, folders, files, only, keep):
    """What changed, and the SHA-256 of each file by its path.

    ``folders`` are path → mode; files have path, content and mode, all paths below ``root``. ``only`` are patterns
    of which no other file may exist, but those that ``keep`` names.
    """
    changed = [name + "/" for name, mode in folders.items() if made(os.path.join(root, name), int(mode, 8))]
    sums = {}
    for file in files:
        data = file["content"].encode()
        sums[file["path"]] = hashlib.sha256(data).hexdigest()
        if written(os.path.join(root, file["path"]), data, int(file.get("mode", "0644"), 8)):
            changed.append(file["path"])
    for path in strangers(root, only, {os.path.join(root, name) for name in (*sums, *keep)}):
        changed.append(os.path.relpath(path, root))
        os.unlink(path)
    return changed, sums


def made(path, mode):
    """Whether the folder was not as it is now."""
    if os.path.isdir(path) and (os.stat(path).st_mode & 0o7777) == mode:
        return False
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    return True


def written(path, data, mode):
    """Whether the file was not as it is now."""
    try:
        with open(path, "rb") as existing:
            if existing.read() == data and (os.fstat(existing.fileno()).st_mode & 0o7777) == mode:
                return False
    except OSError:
        pass
    part = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}")
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
    return True


def strangers(root, patterns, known):
    """Files that match a pattern and are not known."""
    for pattern in patterns:
        folder = os.path.join(root, os.path.dirname(pattern))
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if (
                fnmatch.fnmatch(name, os.path.basename(pattern))
                and path not in known
                and os.path.isfile(path)
            ):
                yield path
