"""Redis and MariaDB under load from another node, without and with the mesh, in turns.

Each is loaded as fast as it goes, where client, server and mesh share the processors, and at a rate that both ways can
serve, as most of a control plane is: there the question is what a request waits longer.
"""

import csv
import re
import select
import socket
import time

from lab import expect
from links import two_ways
from measured import Cost, in_turn, shown_lab
from services import Host, MariaDB, Redis
from traffic import RATES, shape

LINKS = {"on 1 Gbit/s": RATES["1"], "on an unshaped cable": None}
CLIENTS, SIZE, CONNECTIONS = 50, 100, 10
TABLES = ["--tables=4", "--table-size=10000"]
THREADS = 8


class Load:
    """What is measured of an application: `where` names the link, `seconds` is the time of one measurement."""

    def __init__(self, members, pairs, where, seconds):
        self.members, self.pairs, self.where, self.seconds = members, pairs, where, seconds

    def latencies(self, title, way, middle, high):
        for value, name in ((middle, "median"), (high, "99th percentile")):
            self.pairs.add(f"{title}: {name}, ms", way, value, 2)

    def cost(self, title, way, cost, requests):
        self.pairs.add(f"{title}: processor time of the mesh, µs each", way, cost.mesh / requests * 1e6)
        self.pairs.add(f"{title}: of the machine, µs each", way, cost.machine / requests * 1e6)


class RedisLoad(Load):
    """redis-benchmark, and a client of our own, as that one knows no rate."""

    def benchmark(self, way, requests, pipelined):
        done = way.sender.run("redis-benchmark", "-h", way.address, "-t", "set,get", "-c", CLIENTS, "-d", SIZE,
                              "-n", requests, "-P", pipelined, "--csv", timeout=120)
        rows = csv.DictReader(done.stdout.splitlines())
        return {row["test"]: {name: float(value) for name, value in row.items() if name != "test"} for row in rows}

    def fast(self, way, pipelined):
        rate = self.benchmark(way, 20000, pipelined)["GET"]["rps"]
        requests = int(rate * self.seconds / 2)
        with Cost(self.members) as cost:
            measured = self.benchmark(way, requests, pipelined)
        for name in ("GET", "SET"):
            title = f"Redis, {name}, {pipelined} in flight each of {CLIENTS}, {self.where}"
            self.pairs.add(f"{title}: requests/s", way, measured[name]["rps"], 0, True)
            self.latencies(title, way, measured[name]["p50_latency_ms"], measured[name]["p99_latency_ms"])
        self.cost(f"Redis, {pipelined} in flight each of {CLIENTS}, {self.where}", way, cost, 2 * requests)

    def steady(self, way, rate=1000):
        with Cost(self.members) as cost:
            times = sorted(steady(way, Redis.PORT, rate, self.seconds))
        title = f"Redis, {rate} requests/s, {self.where}"
        self.latencies(title, way, *(times[int(len(times) * share)] * 1e3 for share in (0.5, 0.99)))
        self.cost(title, way, cost, len(times))

    def measurements(self):
        return [lambda way: self.fast(way, 1), lambda way: self.fast(way, 16), self.steady]


def steady(way, port, rate, seconds):
    """SETs and GETs at a rate, in turns, over some connections; the time of each."""
    made = [way.sender.open(kind=socket.SOCK_STREAM) for _ in range(CONNECTIONS)]
    for connection in made:
        connection.settimeout(5)
        connection.connect((way.address, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    value = b"x" * SIZE
    asked = [b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%b\r\n" % (SIZE, value), b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"]
    answered = [b"+OK\r\n", b"$%d\r\n%b\r\n" % (SIZE, value)]
    free, busy, times = list(made), {}, []
    start = time.monotonic()
    sent = 0
    while len(times) < rate * seconds:
        wait = start + sent / rate - time.monotonic()
        if wait <= 0 and free and sent < rate * seconds:
            connection = free.pop(0)
            busy[connection] = sent % 2, time.monotonic(), b""
            connection.sendall(asked[sent % 2])
            sent += 1
            continue
        ready = select.select(list(busy), [], [], max(0.0, wait) if free and sent < rate * seconds else 5)[0]
        now = time.monotonic()
        for connection in ready:
            which, since, said = busy[connection]
            said += connection.recv(4096)
            busy[connection] = which, since, said
            if len(said) >= len(answered[which]):
                expect(said == answered[which], f"Redis answered {said!r}")
                times.append(now - since)
                del busy[connection]
                free.append(connection)
    for connection in made:
        connection.close()
    return times


class MariaLoad(Load):
    """sysbench's oltp_read_write: a transaction is 18 statements with their beginning and end, 20 round trips."""

    def sysbench(self, way, verb, *words):
        return way.sender.run(
            "sysbench", "oltp_read_write", "--db-driver=mysql", f"--mysql-host={way.address}", "--mysql-ssl=off",
            f"--mysql-port={MariaDB.PORT}", f"--mysql-user={MariaDB.USER}", f"--mysql-password={MariaDB.PASSWORD}",
            f"--mysql-db={MariaDB.DATABASE}", *TABLES, f"--threads={THREADS}", *words, verb, timeout=120,
        ).stdout

    def run(self, way, title, *words):
        with Cost(self.members) as cost:
            said = self.sysbench(way, "run", f"--time={self.seconds}", "--histogram", *words)
        done, rate = re.search(r"transactions:\s+(\d+)\s+\(([\d.]+) per sec", said).groups()
        self.latencies(title, way, *(of_histogram(said, share) for share in (0.5, 0.99)))
        self.cost(title, way, cost, int(done))
        return float(rate)

    def fast(self, way):
        title = f"MariaDB, {THREADS} clients, {self.where}"
        self.pairs.add(f"{title}: transactions/s", way, self.run(way, title), 0, True)

    def steady(self, way):
        self.run(way, f"MariaDB, 40 transactions/s, {self.where}", "--rate=40")

    def measurements(self):
        return [self.fast, self.steady]


def of_histogram(said, share):
    """A percentile of sysbench's histogram, in ms."""
    found = [(float(value), int(count)) for value, count in re.findall(r"^\s*([\d.]+) \|\**\s*(\d+)$", said, re.M)]
    expect(found, f"sysbench printed no histogram: {said}")
    wanted = share * sum(count for _, count in found)
    for value, count in found:
        wanted -= count
        if wanted <= 0:
            return value
    return found[-1][0]


def start_all(lab, place, ways, report):
    """The applications that are installed, ready, with the class of load for each."""
    host = Host(place, "0.0.0.0")
    made = []
    for load, service, more in ((RedisLoad, Redis, "redis-benchmark"), (MariaLoad, MariaDB, "sysbench")):
        needs = type(service.__name__, (service,), {"NEEDS": {**service.NEEDS, more: more}})
        if missing := needs.missing():
            report(f"SKIPPED: {service.__name__}: {', '.join(missing)} not installed")
            continue
        # A commit does not wait for the disk, as where several nodes have it: the network is to be measured.
        options = ["--innodb-flush-log-at-trx-commit=2"] if service is MariaDB else []
        one = service(lab.work / service.__name__.lower(), [host], *([options] if options else []))
        one.start()
        one.wait()
        if service is MariaDB:
            MariaLoad([], None, "", 0).sysbench(ways[0], "prepare")
        made.append(load)
    return made


def measure_applications(options, pairs, report):
    rounds, seconds = (1, 1) if options.short else (3, 3)
    with shown_lab() as lab:
        members, ways = two_ways(lab)
        kinds = start_all(lab, ways[0].receiver, ways, report)
        for number in range(rounds):
            for where, rate in list(LINKS.items())[:1 if options.short else 2]:
                shape(lab.places, rate)
                for kind in kinds:
                    for measure in kind(members, pairs, where, seconds).measurements():
                        for way in in_turn(ways, number):
                            measure(way)
                    report(f"applications, round {number + 1} of {rounds}, {where}: {kind.__name__}")
