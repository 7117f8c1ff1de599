"""What the compiler made of the vector kernels: codegen.py [--list] PROGRAM.

Disassembles a program that holds the cipher, finds the loops of every kernel in the table below and
counts in the innermost ones. The rounds loop is the one with the most rotates, the tag loop the one
with the most multiplications. A spilled register shows as a stack access; a helper that was not
inlined as a call; a decision on secret bytes as a further conditional jump or as an instruction that
turns vectors into flags. `--list` shows each conditional jump and what it follows.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass


@dataclass
class Limit:
    """What may be in a function. Of the loop that matters; jumps and flags of the whole function."""

    machine: str
    name: str  # the end of the demangled path
    loop: str  # "rotates" or "multiplies": what is most frequent in the loop that matters
    count: int  # exactly so many of those, in all innermost loops that have any the one with the most
    stack: int  # at most so many stack accesses in it
    jumps: int  # at most so many conditional jumps in the function
    flags: int = 0  # exactly so many times vectors become flags or addresses, for lengths


# A kernel that is missing from a program for its machine is an error. To add one: a line here.
KERNELS = [
    Limit("x86-64", "avx512::chacha::xor_32", "rotates", 64, 0, 1),
    Limit("x86-64", "avx512::chacha::xor_24", "rotates", 64, 0, 1),
    Limit("x86-64", "avx512::chacha::xor_16", "rotates", 32, 0, 1),
    Limit("x86-64", "avx512::chacha_one::four", "rotates", 80, 0, 0),
    Limit("x86-64", "avx512::chacha_one::eight", "rotates", 16, 0, 1),
    Limit("x86-64", "avx512::chacha_one::twelve", "rotates", 24, 0, 1),
    Limit("x86-64", "avx512::chacha_one::twenty_four", "rotates", 48, 0, 1),
    Limit("x86-64", "avx512::chacha::xor_8", "rotates", 32, 0, 1),
    Limit("x86-64", "avx512::poly_one::residue", "multiplies", 36, 10, 9),
    Limit("x86-64", "avx512::poly::tags_of_lanes", "multiplies", 72, 3, 4, 1),
    Limit("x86-64", "avx2::chacha::xor", "rotates", 96, 178, 9),
    Limit("x86-64", "avx2::short::four", "rotates", 16, 0, 1),
    Limit("x86-64", "avx2::short::six", "rotates", 24, 0, 1),
    Limit("x86-64", "avx2::short::eight", "rotates", 32, 42, 1),
    Limit("x86-64", "avx2::poly::four", "multiplies", 50, 74, 22),
    Limit("x86-64", "avx2::poly::long", "multiplies", 50, 55, 18),
    Limit("x86-64", "avx2::poly::outer_step", "multiplies", 50, 2, 0),
    Limit("aarch64", "neon::chacha::xor", "rotates", 48, 0, 20),
    Limit("aarch64", "neon::poly::State::absorb", "multiplies", 40, 4, 2),
]

ROTATES = {
    "x86-64": r"vprol[dv]|vprord|vpshufb|vpslld",
    "aarch64": r"rev32|tbl|sri|shl",
}
MULTIPLIES = {
    "x86-64": r"vpmadd52[lh]uq|vpmuludq|mulx?|imul",
    "aarch64": r"um(ul|lal|lsl)2?|umulh|mul",
}
# Vectors become flags or addresses.
DECISIONS = {
    "x86-64": r"k(or)?test\w|v?p?testp?[sd]?|v?p?movmsk\w*|vp?gather\w+|vpcmp[ei]str\w|kmov\w",
    "aarch64": r"[su](max|min)v|addv|fcmp",
}
JUMPS = {
    "x86-64": r"j(?!mp)\w+",
    "aarch64": r"b\.\w+|cbn?z|tbn?z",
}
CALLS = {"x86-64": r"call", "aarch64": r"blr?"}
STACK = {"x86-64": r"\[rsp", "aarch64": r"\[(sp|x29)"}


@dataclass
class Instruction:
    address: int
    name: str
    operands: str

    def target(self, machine):
        """Where a jump leads."""
        if not re.fullmatch(JUMPS[machine] + (r"|jmp" if machine == "x86-64" else r"|b"), self.name):
            return None
        found = re.search(r"\b([0-9a-f]+) <", self.operands)
        return int(found[1], 16) if found else None


class Function:
    def __init__(self, name, machine, code):
        self.name, self.machine, self.code = name, machine, code
        self.stack = STACK[machine]
        if machine == "x86-64" and any(
            i.name == "mov" and i.operands.startswith("rbp,rsp") for i in code
        ):
            self.stack = r"\[r[sb]p"

    def count(self, code, names):
        return sum(bool(re.fullmatch(names, i.name)) for i in code)

    def innermost_loops(self):
        start, end = self.code[0].address, self.code[-1].address
        loops = set()
        for i in self.code:
            target = i.target(self.machine)
            if target is not None and start <= target <= i.address <= end:
                loops.add((target, i.address))

        def holds_another(loop):
            return any(o != loop and loop[0] <= o[0] and o[1] <= loop[1] for o in loops)

        for first, last in sorted(loops):
            if not holds_another((first, last)):
                yield [i for i in self.code if first <= i.address <= last]

    def loop_with_most(self, names):
        """Or the whole function, if its loops were all unrolled."""
        loops = self.innermost_loops()
        return max(loops, key=lambda loop: self.count(loop, names), default=self.code)

    def stack_accesses(self, code):
        return sum(bool(re.search(self.stack, i.operands)) and i.name != "lea" for i in code)

    def matching(self, names):
        """Each with the instruction before it, which for a jump sets the flags."""
        pairs = zip([self.code[0], *self.code], self.code)
        return [pair for pair in pairs if re.fullmatch(names, pair[1].name)]

    def decisions(self):
        def is_decision(i):
            # The other way round a register becomes a mask.
            to_register = i.name.startswith("kmov") and re.match(r"[er]\w+,k\d", i.operands)
            scalar = i.name == "test" or i.name.startswith("kmov") and not to_register
            return not scalar

        return [(b, i) for b, i in self.matching(DECISIONS[self.machine]) if is_decision(i)]


def objdump(program, *options):
    command = [os.environ.get("OBJDUMP", "objdump"), *options, program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def machine_of(program):
    headers = objdump(program, "-f")
    return next((m for m in ROTATES if m in headers), None) or sys.exit(f"unknown: {headers}")


def functions(program, machine):
    options = ["-d", "-C", "-w", "--no-show-raw-insn"]
    if machine == "x86-64":
        options += ["-M", "intel"]
    name, code = None, []
    for line in [*objdump(program, *options).splitlines(), ""]:
        if found := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            name, code = found[1], []
        elif found := re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", line):
            code.append(Instruction(int(found[1], 16), found[2], found[3]))
        elif name and code:
            yield Function(name, machine, code)
            name = None


def check(limit, function, show):
    """Prints a line of the table; what is wrong with it."""
    machine, kind = limit.machine, {"rotates": ROTATES, "multiplies": MULTIPLIES}[limit.loop]
    loop = function.loop_with_most(kind[machine])
    count = function.count(loop, kind[machine])
    stack, calls = function.stack_accesses(loop), function.count(loop, CALLS[machine])
    jumps, decisions = function.matching(JUMPS[machine]), function.decisions()
    print(
        f"{limit.name:32} {count:4} {limit.loop:10} {len(loop):5} {stack:4}/{limit.stack:<3}"
        f" {len(jumps):3}/{limit.jumps:<3} {len(decisions):3}/{limit.flags} {len(function.code):7}"
    )
    if show:
        for before, i in jumps + decisions:
            shown = [re.sub(r" +#.*| <.*|\t*//.*", "", f"{j.name} {j.operands}") for j in (before, i)]
            print(f"    {i.address:x}  {'; '.join(shown)}")
    wrong = []
    if count != limit.count:
        wrong.append(f"{count} {limit.loop} in the loop, not {limit.count}")
    if stack > limit.stack:
        wrong.append(f"{stack} stack accesses in the loop")
    if calls:
        wrong.append(f"{calls} calls in the loop")
    if len(jumps) > limit.jumps:
        wrong.append(f"{len(jumps)} conditional jumps, more than {limit.jumps}")
    if len(decisions) != limit.flags:
        wrong.append(f"{len(decisions)} instructions turn vectors into flags or addresses")
    return [f"{limit.name}: {what}" for what in wrong]


def main():
    show, [program] = "--list" in sys.argv, [a for a in sys.argv[1:] if a != "--list"]
    machine = machine_of(program)
    found = list(functions(program, machine))
    problems = []
    print(f"{'kernel':32} {'in the loop':15} {'of':>5} {'stack':>7} {'jumps':>8} flags  in all")
    for limit in (limit for limit in KERNELS if limit.machine == machine):
        copies = [f for f in found if f.name.endswith(f"::{limit.name}")]
        if not copies:
            problems.append(f"{limit.name}: not found")
        for function in copies:
            problems += check(limit, function, show)
    print("\n".join(problems))
    sys.exit(bool(problems))


main()
