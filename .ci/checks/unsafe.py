"""Unsafe code: only in the vector kernels, each piece with its reason, and no more than now.

Counts `unsafe {` blocks and `unsafe fn`, `impl`, `trait` and `extern` under src. Each needs a comment
`// SAFETY:` right above (attributes and the start of its own statement may stand between), also in
macros, where Clippy does not look; a function says in its documentation what it asks for.
"""

import re
import sys
from pathlib import Path

# The only place for it, and the most that may be there. Who needs more says why in the change that
# raises it.
HOME = "src/crypto/aead/simd/"
MOST = 73

WORD = re.compile(r"\bunsafe\b(?=\s*(\{|fn\b|impl\b|trait\b|extern\b))|\bunsafe\s*$")
NO_CODE = re.compile(r'//.*|"(?:\\.|[^"\\])*"')


def is_explained(lines, at):
    """Whether `// SAFETY:` is in the comment above the statement that line `at` is part of."""
    for above in reversed(lines[:at]):
        line = above.strip()
        if line.startswith("//"):
            if line.startswith("// SAFETY:") or line == "/// # Safety" and "unsafe fn" in lines[at]:
                return True
        elif not line or line.endswith((";", "{", "}", "},", "=>")) and not line.startswith("#["):
            return False
    return False


def main():
    counts, problems = {}, []
    for path in sorted(Path("src").rglob("*.rs")):
        lines = path.read_text().splitlines()
        for at, line in enumerate(lines):
            found = len(WORD.findall(NO_CODE.sub("", line)))
            if not found:
                continue
            counts[path] = counts.get(path, 0) + found
            if not str(path).startswith(HOME):
                problems.append(f"{path}:{at + 1}: unsafe code outside {HOME}")
            if not is_explained(lines, at):
                problems.append(f"{path}:{at + 1}: no `// SAFETY:` above")
    for path, count in counts.items():
        print(f"{count:5}  {path}")
    total = sum(counts.values())
    print(f"{total:5}  in all, of {MOST} at most")
    if total > MOST:
        problems.append(f"{total} unsafe pieces, more than {MOST}")
    print("\n".join(problems))
    sys.exit(bool(problems))


main()
