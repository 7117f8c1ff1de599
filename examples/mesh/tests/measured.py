"""What `figures` has measured, and how it is shown: pairs without and with the mesh, and times."""

import os
import statistics
import sys
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

from lab import Lab, Usage, wait_until
from member import Member, everybody_up

WITHOUT, WITH = "without", "with"


class Way:
    """From one place to another: past the mesh to the outer address, or through it."""

    def __init__(self, name, sender, receiver, address):
        self.name, self.sender, self.receiver, self.address = name, sender, receiver, address


class Cost:
    """Processor time between entering and leaving: of the mesh's processes, and of the whole machine."""

    def __init__(self, members):
        self.members = members
        self.mesh = self.machine = 0.0

    def used(self):
        used = [Usage(member.process.pid) for member in self.members]
        # user, nice, system, idle, waiting for disks, interrupts of two kinds, stolen
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
        return sum(one.user + one.system for one in used), busy

    def __enter__(self):
        self.before = self.used()
        return self

    def __exit__(self, *_):
        self.mesh, self.machine = (after - before for after, before in zip(self.used(), self.before))


class Pairs:
    """Figures that there are without and with the mesh, by title, each with one value a round."""

    def __init__(self):
        self.rows = {}

    def add(self, title, way, value, digits=0, is_rate=False):
        row = self.rows.setdefault(title, {"digits": digits, "is_rate": is_rate, WITHOUT: [], WITH: []})
        row[way if isinstance(way, str) else way.name].append(value)

    def losses(self, title):
        """What a rate has lost by the mesh in %, in each round."""
        row = self.rows[title]
        return [100 * (1 - got / bare) for bare, got in zip(row[WITHOUT], row[WITH])]

    def loss(self, title):
        return statistics.median(self.losses(title))

    def middle(self, title, way=WITH):
        return statistics.median(self.rows[title][way])

    def table(self):
        yield "| medians (lowest–highest) | without | with the mesh | difference |"
        yield "|---|---:|---:|---:|"
        for title, row in self.rows.items():
            cells = [spread(row[way], row["digits"]) for way in (WITHOUT, WITH)]
            yield f"| {title} | {' | '.join(cells)} | {self.difference(title, row)} |"

    def difference(self, title, row):
        if not row[WITHOUT] or not row[WITH]:
            return ""
        if row["is_rate"]:
            return f"{-self.loss(title):+.1f} %"
        more = statistics.median(got - bare for bare, got in zip(row[WITHOUT], row[WITH]))
        return f"{more:+.{row['digits']}f}"


class Times:
    """How long something took, by title, and the pings that were lost: one of both a round."""

    def __init__(self):
        self.rows = {}

    def add(self, title, seconds, lost=None, sent=None):
        self.rows.setdefault(title, []).append((seconds, lost, sent))

    def middle(self, title):
        return statistics.median(seconds for seconds, _, _ in self.rows[title])

    def worst(self, title):
        return max(seconds for seconds, _, _ in self.rows[title])

    def table(self):
        yield "| | rounds | seconds: median; worst | pings lost: median; worst | of |"
        yield "|---|---:|---:|---:|---:|"
        for title, rounds in self.rows.items():
            seconds, lost, sent = zip(*rounds)
            pings = "– | –"
            if lost[0] is not None:
                pings = f"{statistics.median(lost):.0f}; {max(lost)} | {statistics.median(sent):.0f}"
            yield (f"| {title} | {len(rounds)} | {statistics.median(seconds):.3f}; {max(seconds):.3f} | "
                   f"{pings} |")


def spread(values, digits):
    if not values:
        return "–"
    middle, low, high = (f"{round(value, digits) + 0.0:.{digits}f}" for value in
                         (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


@contextmanager
def shown_lab():
    """A lab whose logs are shown if something fails in it."""
    with Lab() as lab:
        try:
            yield lab
        except Exception:
            print(*lab.logs(), sep="\n", file=sys.stderr)
            raise


def start_with_clear_ways(lab):
    """Two members whose subnets have a way in the clear too, as on a cluster that runs already."""
    members = []
    for place, other in permutations(lab.add_places(2)):
        place.ip("addr", "add", f"10.244.{place.number}.1/24", "dev", "lo")
        place.ip("route", "add", f"10.244.{other.number}.0/24", "via", other.outer())
        more = ["--network", "10.244.0.0/16", "--subnet", f"10.244.{place.number}.0/24"]
        members.append(Member(place, f"folder:{lab.work / 'directory'}", more=more))
    for member in members:
        member.start()
    wait_until(lambda: everybody_up(members), 20, "the mesh did not come up")
    return members


def in_turn(ways, number):
    """Another one is the first in every other round."""
    return ways if number % 2 == 0 else ways[::-1]
