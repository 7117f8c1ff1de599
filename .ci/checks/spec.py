"""Every row of SPEC.md leads to code and to tests, and every decision test is in a row.

A row is `| id | requirement | `src/file.rs` `Item` … | `test` … |`. Items follow the file that
defines them; `Type::method` is looked up by its last part. A row of the faults seen elsewhere is
`| id | fault | `test` … |`, or has a sentence that begins with "Cannot" in place of tests.
"""

import re
import sys
from pathlib import Path

DEFINITION = r"\b(?:fn|struct|enum|union|trait|const|static|type|mod|macro_rules!)\s+{}\b"
VARIANT_OR_FIELD = r"^\s*(?:pub(?:\(\w+\))?\s+)?{}\s*(?:[,({{:]|=\s)"


def defined(item, text):
    name = re.escape(item.split("::")[-1].removesuffix("()"))
    patterns = (DEFINITION.format(name), VARIANT_OR_FIELD.format(name))
    return any(re.search(pattern, text, re.M) for pattern in patterns)


def tests():
    """Names of the functions under src and tests, and those that are marked as tests."""
    functions, marked = set(), set()
    for folder in ("src", "tests", "fuzz/bodies"):
        for path in Path(folder).rglob("*.rs"):
            text = path.read_text()
            functions |= set(re.findall(r"\bfn (\w+)", text))
            marked |= set(re.findall(r"#\[test\][^{};]*?\bfn (\w+)", text))
    return functions, marked


def check_code(row, cell):
    problems, text, file = [], None, None
    for span in re.findall(r"`([^`]+)`", cell):
        if span.endswith(".rs"):
            file = Path(span)
            text = file.read_text() if file.is_file() else None
            if text is None:
                problems.append(f"{row}: no file {span}")
        elif file is None:
            problems.append(f"{row}: {span} follows no file")
        elif text is not None and not defined(span, text):
            problems.append(f"{row}: {file} does not define {span}")
    if file is None:
        problems.append(f"{row}: names no file")
    return problems


def main():
    functions, marked = tests()
    problems, mentioned, rows = [], set(), []
    for line in Path("SPEC.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and re.match(r"F\d+$", cells[0]):
            rows.append(cells[0])
            names = re.findall(r"`(\w+)`", cells[2])
            problems += [f"{cells[0]}: no test {name}" for name in names if name not in functions]
            if not names and not cells[2].startswith("Cannot"):
                problems.append(f"{cells[0]}: names no test and no reason")
            mentioned |= set(names)
            continue
        if not line.startswith("|") or len(cells) < 4 or set(cells[0]) <= set("-: "):
            continue
        if not re.search(r"`[^`]+\.rs`", cells[2]):
            if cells[0].lower() not in ("id", "no.", "#", "row"):
                problems.append(f"{cells[0]}: names no file")
            continue
        rows.append(cells[0])
        problems += check_code(cells[0], cells[2])
        names = [span.split("::")[-1] for span in re.findall(r"`([^`]+)`", cells[3])]
        problems += [f"{cells[0]}: no test {name}" for name in names if name not in functions]
        if not names:
            problems.append(f"{cells[0]}: names no test")
        mentioned |= set(names)
    problems += [f"{row}: twice" for row in set(rows) if rows.count(row) > 1]
    decisions = {name for name in marked if re.match(r"d\d\d_", name)}
    problems += [f"{name} is in no row" for name in sorted(decisions - mentioned)]
    if not rows:
        problems.append("no rows were found")
    print("\n".join(problems) or f"{len(rows)} rows, {len(mentioned)} tests")
    sys.exit(bool(problems))


main()
