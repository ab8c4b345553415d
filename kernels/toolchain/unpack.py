"""Unpacks wheels over each other into a new folder: unpack.py FOLDER WHEEL...  Only plain files, nothing outside of it."""
import os
import sys
import zipfile

folder = os.path.realpath(sys.argv[1])
for wheel in sys.argv[2:]:
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            mode = item.external_attr >> 16
            path = os.path.normpath(os.path.join(folder, item.filename))
            if not path.startswith(folder + os.sep) or (mode & 0o170000) not in (0, 0o100000, 0o040000):
                raise SystemExit(f"{wheel}: an entry is not a plain file inside the folder")
            if item.is_dir():
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            executable = mode & 0o111 or os.path.basename(os.path.dirname(path)) == "bin"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with archive.open(item) as source, os.fdopen(os.open(path, flags, 0o755 if executable else 0o644), "wb") as out:
                while chunk := source.read(1 << 20):
                    out.write(chunk)
