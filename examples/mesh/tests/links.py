"""Throughput and latency of a shaped cable, without and with the mesh, in turns."""

import time

from measured import WITH, WITHOUT, Cost, Way, in_turn, shown_lab
from lab import expect
from member import start_mesh
from traffic import RATES, Worker, iperf, ping, shape

TCP = "TCP, one stream, {} Gbit/s, Mbit/s"


def two_ways(lab, line=None):
    """Two members of a mesh, and the ways from the first to the second."""
    members = start_mesh(lab, lab.add_places(2, whole=True), line)
    one, other = members
    ways = [Way(WITHOUT, one.place, other.place, other.place.outer()),
            Way(WITH, one.place, other.place, other.inner)]
    return members, ways


def received(way, seconds, *words):
    """Bit/s that arrive, and bits in all."""
    end = iperf(way.sender, way.receiver, way.address, seconds, *words)["sum_received"]
    return end["bits_per_second"], end["bytes"] * 8


class Link:
    """One rate of the cable and everything that is measured on it."""

    def __init__(self, members, rate, seconds, pairs):
        self.members, self.rate, self.seconds, self.pairs = members, rate, seconds, pairs

    def add(self, title, way, value, digits=0, is_rate=False):
        self.pairs.add(title.format(self.rate), way, value, digits, is_rate)

    def one_stream(self, way):
        with Cost(self.members) as cost:
            rate, bits = received(way, self.seconds)
        self.add(TCP, way, rate / 1e6, 0, True)
        self.add("… processor time of both mesh processes, {} Gbit/s, s per Gbit", way, cost.mesh / bits * 1e9, 3)
        self.add("… of the machine, {} Gbit/s, s per Gbit", way, cost.machine / bits * 1e9, 3)

    def four_streams(self, way):
        self.add("TCP, four streams, {} Gbit/s, Mbit/s", way, received(way, self.seconds, "-P", 4)[0] / 1e6, 0, True)

    def datagrams(self, way):
        end = iperf(way.sender, way.receiver, way.address, self.seconds, "-u", "-b", "0", "-l", "64")["sum"]
        taken = (end["packets"] - end["lost_packets"]) / end["seconds"]
        self.add("UDP of 64 bytes, {} Gbit/s, received, 1000/s", way, taken / 1e3, 0, True)

    def pings(self, way, title):
        pings = ping(way.sender, way.address, int(self.seconds * 200), 0.005, wait=1)
        expect(pings.times, f"no ping {way.name} the mesh was answered")
        # Where the queue of the cable is always full, a ping may be dropped as everything else there.
        expect(pings.lost <= pings.sent // 5, f"{pings.lost} of {pings.sent} pings {way.name} the mesh were lost")
        for share, name in ((0.5, "median"), (0.99, "99th percentile")):
            self.add(f"ping, {title}, {{}} Gbit/s, {name}, ms", way, pings.percentile(share) * 1e3, 2)

    def idle(self, way):
        self.pings(way, "idle")

    def beside(self, way, title, *words):
        load = Worker(received, way, self.seconds + 1, *words)
        time.sleep(0.7)
        self.pings(way, title)
        load.outcome(30)

    def beside_half(self, way):
        self.beside(way, "beside 500 Mbit/s", "-b", "500M")

    def beside_full(self, way):
        self.beside(way, "beside TCP at full speed")


    def measurements(self, is_short):
        if is_short and self.rate != "1":
            return [self.one_stream]
        few = [self.one_stream, self.idle, self.beside_half]
        return few if is_short else [*few, self.four_streams, self.beside_full, self.datagrams]


def measure_links(options, pairs, report):
    rounds, seconds = (2, 2) if options.short else (3, 3)
    with shown_lab() as lab:
        members, ways = two_ways(lab)
        for number in range(rounds):
            for rate, shaping in RATES.items():
                shape(lab.places, shaping)
                for measure in Link(members, rate, seconds, pairs).measurements(options.short):
                    for way in in_turn(ways, number):
                        measure(way)
                lost = pairs.loss(TCP.format(rate))
                report(f"links, round {number + 1} of {rounds}, {rate} Gbit/s: {lost:.1f} % lost")
        for member in members:
            expect(member.process.poll() is None, f"{member.name} has ended")
