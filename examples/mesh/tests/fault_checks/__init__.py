"""The checks of `faults`, in the order in which they are made, and what they have in common.

A check is a function whose name says what is broken. It gets a `Lab` of its own, raises `Failure` if the mesh does
not stand it, and `Skip` where that cannot be found out. What was lost is counted and noted.
"""

import json
import os
import shutil
import threading
import time
from importlib import import_module

from lab import Skip, execute, wait_until
from member import CLUSTER, LEAD, Member, everybody_up, start_mesh
from traffic import Worker, ping

MODULES = ["keys", "claims", "directory", "etcd", "thieves", "clocks", "disk", "network", "crashes"]
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def load():
    for module in MODULES:
        import_module(f"fault_checks.{module}")
    return CHECKS


def is_long():
    """Whether outages last for minutes, as LONG=1 asks for, and not for seconds."""
    return os.environ.get("LONG") == "1"


def folder(lab):
    return lab.work / "directory"


def mesh(lab, count=3, lead=LEAD):
    return start_mesh(lab, lab.add_places(count), lead=lead)


def record_of(lab, name):
    return json.loads((folder(lab) / f"{name}.json").read_text())


def put(lab, name, record):
    """Replaces a record as a node does."""
    new = folder(lab) / f".{name}.test"
    new.write_text(record if isinstance(record, str) else json.dumps(record))
    new.rename(folder(lab) / f"{name}.json")


def refused(member, name, word):
    return any(one["name"] == name and word in one["reason"] for one in member.status()["refusals"])


def under_traffic(one, other, seconds, act):
    """Pings both ways every 2 ms while something is done; how many were lost of how many."""
    both = [Worker(ping, a.place, b.inner, int(seconds * 500), 0.002) for a, b in ((one, other), (other, one))]
    time.sleep(0.3)
    act()
    made = [worker.outcome(seconds + 30) for worker in both]
    return sum(pings.lost for pings in made), sum(pings.sent for pings in made)


class Steady:
    """Pings between pairs of members, both ways and all the time, until `end` says what was lost."""

    def __init__(self, *pairs, interval=0.01):
        self.interval = interval
        self.over = threading.Event()
        both = [pair for one, other in pairs for pair in ((one, other), (other, one))]
        self.workers = [
            Worker(ping, one.place, other.inner, 1 << 30, interval, 56, False, 2.0, None, None, self.over)
            for one, other in both
        ]
        self.lost = self.sent = self.longest = 0
        time.sleep(0.2)

    def end(self):
        self.over.set()
        for worker in self.workers:
            pings = worker.outcome(60)
            answered = [-1, *sorted(pings.times), pings.sent]
            gap = max(after - before - 1 for before, after in zip(answered, answered[1:]))
            self.longest = max(self.longest, gap)
            self.lost += pings.lost
            self.sent += pings.sent
        return self

    def __str__(self):
        text = f"{self.lost} of {self.sent} pings lost"
        return text if not self.lost else f"{text}, at most {self.longest * self.interval:.2f} s one after the other"


class Etcd:
    """An etcd of three members with TLS, users and roles, each in a place."""

    def __init__(self, lab, places):
        for tool in ("etcd", "etcdctl", "openssl"):
            if shutil.which(tool) is None:
                raise Skip(f"there is no {tool}")
        self.folder = lab.work / "etcd"
        self.places = places
        self.run("start", *(word for place in places for word in ("--at", f"{place.name}={place.outer()}")))

    def run(self, verb, *words, check=True):
        """`cluster VERB FOLDER WORDS...`"""
        return execute(CLUSTER, verb, self.folder, *words, timeout=120, check=check)

    def node(self, name):
        """The line with which a node of this name finds it."""
        return self.run("add-node", name).stdout.strip()

    def only(self, line, member):
        """The line of a node that is told of one member only."""
        _, _, more = line.partition("?")
        return f"etcd:https://{self.places[member - 1].outer()}:2379?{more}"

    def wipe(self, member):
        """Takes a member's data away."""
        shutil.rmtree(self.folder / f"member{member}" / "data")

    def ctl(self, *words):
        return self.run("ctl", *words).stdout

    def record(self, name):
        """A node's record, or None."""
        text = self.ctl("get", "--print-value-only", f"/quietwire/mesh/nodes/{name}").strip()
        return json.loads(text) if text else None


def etcd_mesh(lab, count=3, more_nodes=0):
    """Nodes that run on an etcd beside them, and as many that do not run yet."""
    places = lab.add_places(count + more_nodes + 3)
    etcd = Etcd(lab, places[-3:])
    members = [Member(place, etcd.node(f"node-{place.number}")) for place in places[:-3]]
    for member in members[:count]:
        member.start()
    wait_until(lambda: everybody_up(members[:count]), 30, "the mesh did not come up")
    return etcd, members


def said(member, words):
    """Whether a node has written this."""
    return words in member.log.read_text(errors="replace")
