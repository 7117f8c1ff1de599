"""Imports point down the list of modules in src/lib.rs.

A module may name only modules whose `mod` line stands below its own. Named means `use`d or written
out as a path, in code that is not a test. An item that lib.rs exports counts as its module's.
"""

import re
import sys
from pathlib import Path

SRC = Path("src")


def code(path):
    """The file without comments, strings and inline test modules."""
    text = path.read_text()
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    while found := re.search(r"#\[cfg\(test\)\]\s*(?:pub )?mod \w+ \{", text):
        text = text[: found.start()] + text[end_of_block(text, found.end()) :]
    # Single items for tests: their imports and bodies go too.
    text = re.sub(r"#\[cfg\(test\)\]\s*use [^;]+;", "", text)
    return text


def end_of_block(text, start):
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
    return len(text)


def test_files():
    """Files of modules that exist in tests only."""
    files = set()
    for path in SRC.rglob("*.rs"):
        folder = path.parent if path.name in ("mod.rs", "lib.rs") else path.with_suffix("")
        for name in re.findall(r"#\[cfg\(test\)\]\s*(?:pub(?:\(\w+\))? )?mod (\w+);", path.read_text()):
            files |= {folder / f"{name}.rs", folder / name / "mod.rs"}
    return files


def top_module(path):
    relative = path.relative_to(SRC)
    return relative.parts[0].removesuffix(".rs")


def depth(path):
    """How many `super::` lead from the file's module to the crate's root."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return len(parts) - (parts[-1] == "mod")


def first_names(rest):
    """The first segments of what follows `crate::`: one name, or those of a braced group."""
    rest = rest.lstrip()
    if not rest.startswith("{"):
        return re.findall(r"^\w+", rest)
    group = rest[1 : end_of_block(rest, 1) - 1]
    names, nesting, start = [], 0, 0
    for at, char in enumerate(group + ","):
        nesting += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and nesting == 0:
            names += re.findall(r"^\s*(\w+)", group[start:at])
            start = at + 1
    return names


def main():
    lib = code(SRC / "lib.rs")
    layers = re.findall(r"^(?:pub )?mod (\w+);", lib, re.M)
    order = {name: n for n, name in enumerate(layers)}
    exports = {}
    for module, items in re.findall(r"pub use (\w+)::(\{[^}]*\}|\w+)", lib):
        exports |= {item: module for item in re.findall(r"\w+", items)}
    skip = test_files() | {SRC / "lib.rs"}
    violations, imports = [], 0
    for path in sorted(set(SRC.rglob("*.rs")) - skip):
        text, module = code(path), top_module(path)
        root = r"\bcrate::|\b" + "super::" * depth(path)
        for found in re.finditer(root, text):
            for name in first_names(text[found.end() :]):
                target = exports.get(name, name)
                if target not in order:
                    continue
                imports += 1
                if target != module and order[target] < order[module]:
                    violations.append(f"{path}: {module} imports {target}, which stands above it")
    if imports < 50:
        violations.append(f"only {imports} imports were found: the check is broken")
    print("\n".join(sorted(set(violations))) or f"{imports} imports point down")
    sys.exit(bool(violations))


main()
