"""What no file of the tree may be: too long, or written for one machine alone."""

import re
import subprocess
import sys
from pathlib import Path

# Lines of a file of code; a file of tests may list more cases.
MAX_LINES, MAX_TEST_LINES = 500, 900

# Written in parts, so that this file may hold them.
FOREIGN = ["/wo" + "rk/", "../sha" + "red", "/tm" + "p/qw", "Co-authored" + "-by"]


def lines_of_code(path):
    """A source file's tests stand behind its code and do not count."""
    return re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", path.read_text(), flags=re.M)[0].count("\n")


def main():
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True)
    files = [path for path in map(Path, listed.stdout.splitlines()) if path.is_file()]
    problems = []
    for path in files:
        most = MAX_TEST_LINES if "tests" in path.with_suffix("").parts else MAX_LINES
        if path.suffix == ".rs" and (length := lines_of_code(path)) > most:
            problems.append(f"{path}: {length} lines, more than {most}")
        content = path.read_bytes()
        problems += [f"{path}: holds {name}" for name in FOREIGN if name.encode() in content]
    print("\n".join(problems) or f"{len(files)} files")
    sys.exit(bool(problems))


main()
