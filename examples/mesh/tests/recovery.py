"""How long it takes to join, and to be reached again after a fault, with the pings that are lost by it."""

import functools
import itertools
import shutil
import threading
import time

from lab import expect, execute, wait_until
from measured import shown_lab, start_with_clear_ways
from member import CLUSTER, LEAD, Member, everybody_up, start_etcd, start_mesh
from traffic import Pings, Worker, ping, reach

EVERY = 0.002
# The answers of half a second, less those that a busy machine is late with.
MOST = 0.8

_addresses = itertools.count(101)


class Watch:
    """Pings both ways between two members while something happens to one of them."""

    def __init__(self, one, other, every=EVERY, targets=None):
        self.every = every
        self.over = threading.Event()
        self.series = [Pings(), Pings()]
        ways = zip((one, other), targets or (other.inner, one.inner), self.series)
        self.workers = [Worker(self.ping, *way) for way in ways]
        time.sleep(0.3)

    def ping(self, member, target, into):
        ping(member.place, target, 1 << 40, self.every, wait=1, until=self.over, into=into)

    @staticmethod
    def answers(pings, mark):
        """When pings were answered after `mark`."""
        # A copy, as the thread that pings goes on.
        times = [pings.sent_at[number] + took for number, took in pings.times.copy().items()]
        return sorted(at for at in times if at > mark)

    def is_answered_since(self, mark):
        """Whether both ways work, and have for half a second."""
        since = max(mark, time.monotonic() - 0.5)
        return all(len(self.answers(pings, since)) > MOST * 0.5 / self.every for pings in self.series)

    def pause(self, mark):
        """The longest time without an answer after `mark`."""
        found = []
        for pings in self.series:
            times = [mark, *self.answers(pings, mark)]
            found += [later - earlier for earlier, later in zip(times, times[1:])]
        return max(found)

    def until(self, mark):
        """From `mark` to the first answer after the last ping that was lost."""
        found = []
        for pings in self.series:
            first = None
            for number, at in enumerate(pings.sent_at):
                if at >= mark and number not in pings.times:
                    first = None
                elif at >= mark and first is None:
                    first = number
            expect(first is not None, "the last ping was lost")
            found.append(pings.sent_at[first] + pings.times[first] - mark)
        return max(found)

    def outcome(self, mark, within, at_least=0.5):
        """Goes on until both ways work; the longest pause, the time until then, pings lost and sent."""
        time.sleep(max(0.0, mark + at_least - time.monotonic()))
        wait_until(lambda: time.sleep(0.1) or self.is_answered_since(mark), within, "pings were not answered again")
        self.end()
        numbers = [(pings, number) for pings in self.series for number, at in enumerate(pings.sent_at) if at >= mark]
        lost = sum(number not in pings.times for pings, number in numbers)
        return self.pause(mark), self.until(mark), lost, len(numbers)

    def end(self):
        self.over.set()
        for worker in self.workers:
            worker.outcome(10)


def killed(other):
    mark = time.monotonic()
    other.kill()
    other.start()
    return mark


def unplugged(other, seconds):
    other.place.ip("link", "set", "cable", "down")
    time.sleep(seconds)
    other.place.ip("link", "set", "cable", "up")
    return time.monotonic()


def change_address(member):
    old, member.endpoint = member.endpoint, f"192.0.2.{next(_addresses)}"
    member.place.ip("addr", "del", f"{old}/24", "dev", "cable")
    member.place.ip("addr", "add", f"{member.endpoint}/24", "dev", "cable")


def roams(other):
    """Another address beneath a process that goes on."""
    mark = time.monotonic()
    change_address(other)
    return mark


def moves(other):
    """Another address in the record too, which a restart publishes."""
    mark = time.monotonic()
    other.process.terminate()
    other.process.wait(10)
    change_address(other)
    other.start()
    return mark


def obeys(verb, *members):
    mark = time.monotonic()
    for member in members:
        member.call(verb)
    return mark


def misses_the_folder(other, seconds):
    """It takes a new key while there is no directory; the time is from the directory's return."""
    folder = other.place.lab.work / "directory"
    away = folder.with_suffix(".away")
    folder.rename(away)
    time.sleep(seconds)
    other.call("reprovision")
    time.sleep(1)
    expect(not folder.exists(), f"{folder} was made anew")
    away.rename(folder)
    return time.monotonic()


def misses_etcd(other, seconds):
    """The same; the time is from the start of etcd's members, so their election is in it."""
    at = other.place.lab.work / "etcd"
    execute(CLUSTER, "stop", at, timeout=60)
    time.sleep(seconds)
    other.call("reprovision")
    time.sleep(1)
    mark = time.monotonic()
    execute(CLUSTER, "start", at, timeout=60)
    return mark


class Recovery:
    """Does things to the second one of some members, again and again."""

    def __init__(self, is_short, times, report):
        self.is_short, self.times, self.report = is_short, times, report
        self.rounds = 1 if is_short else 5
        self.at_least = 1.0 if is_short else 2.0

    def repeat(self, title, members, act, at_least=0.0, is_pause=False, targets=None):
        for _ in range(self.rounds):
            self.once(title, members, act, at_least, is_pause, targets)

    def once(self, title, members, act, at_least=0.0, is_pause=False, targets=None):
        """`act` returns the time from which is counted; with `is_pause` the longest pause is what counts."""
        wait_until(lambda: everybody_up(members), 30, "the mesh was not whole before")
        watch = Watch(*members[:2], targets=targets)
        pause, until, lost, sent = watch.outcome(act(), 60, max(at_least, self.at_least))
        self.add(title, pause if is_pause else until, lost, sent)

    def add(self, title, seconds, lost, sent):
        self.times.add(title, seconds, lost, sent)
        self.report(f"{title}: {seconds:.3f} s, {lost} of {sent} pings lost")

    def of_a_pair(self):
        out, away = (1, 2) if self.is_short else (3, 9)
        with shown_lab() as lab:
            members = start_mesh(lab, lab.add_places(2))
            act = functools.partial(functools.partial, other=members[1])
            self.repeat("killed (SIGKILL) and started at once", members, act(killed))
            self.repeat(f"cable out for {out} s, from its return", members, act(unplugged, seconds=out))
            self.repeat("another outer address, the process goes on", members, act(roams))
            self.repeat("another outer address, restarted with it", members, act(moves))
            self.keys(members, "folder")
            self.repeat(f"new key while the folder was away for {away + 1} s, from its return", members,
                        act(misses_the_folder, seconds=away))

    def keys(self, members, where):
        self.repeat(f"`mesh rotate`, {where}: longest pause", members, lambda: obeys("rotate", members[1]),
                    LEAD + 2, True)
        self.repeat(f"`mesh reprovision`, {where}: longest pause", members, lambda: obeys("reprovision", members[1]),
                    is_pause=True)

    def partitions(self):
        for seconds in (3,) if self.is_short else (3, 30, 180):
            self.partition(seconds)

    def partition(self, seconds):
        """All pairs of a lab at once, each a mesh of its own: a partition is mostly waiting."""
        title = f"partition of {seconds} s, from its end"
        with shown_lab() as lab:
            places = lab.add_places(2 * self.rounds)
            pairs = [start_mesh(lab, pair, lambda _, number=number: f"folder:{lab.work}/directory{number}")
                     for number, pair in enumerate(zip(places[::2], places[1::2]))]
            watches = [Watch(*pair, every=EVERY * self.rounds) for pair in pairs]
            for _, other in pairs:
                other.place.nft("chain cut { type filter hook prerouting priority -300; udp dport 51820 drop\n }\n"
                                "chain gag { type filter hook output priority -300; udp sport 51820 drop\n }")
            time.sleep(seconds)
            marks = []
            for _, other in pairs:
                other.place.forget()
                marks.append(time.monotonic())
            for watch, mark in zip(watches, marks):
                _, until, lost, sent = watch.outcome(mark, 60, self.at_least)
                self.add(title, until, lost, sent)

    def switched(self):
        with shown_lab() as lab:
            members = start_with_clear_ways(lab)
            for _ in range(self.rounds):
                for verb in ("disable", "enable"):
                    self.once(f"`mesh {verb}` on two nodes, one after the other: longest pause", members,
                              lambda verb=verb: obeys(verb, *members), 0, True, ("10.244.2.1", "10.244.1.1"))

    def with_etcd(self):
        if self.is_short or not has_etcd():
            self.report(f"SKIPPED: etcd away: {'it takes minutes' if self.is_short else 'there is no etcd'}")
            return
        with shown_lab() as lab:
            places = lab.add_places(3)
            members = start_mesh(lab, places, start_etcd(lab, places))
            self.keys(members, "etcd")
            self.repeat("new key while etcd was away for 10 s, from its start", members,
                        lambda: misses_etcd(members[1], 9))


class Joining:
    """A new node in a mesh, again and again: how long from its start to its first answer."""

    def __init__(self, times, report):
        self.times, self.report = times, report

    def measure(self, count, rounds, with_etcd=False):
        with shown_lab() as lab:
            *places, place = lab.add_places(count + 1)
            line = start_etcd(lab, places) if with_etcd else None
            members = start_mesh(lab, places, line)
            where = "etcd of three" if with_etcd else "folder"
            newcomer = Member(place, line(f"node-{place.number}") if line else members[0].directory)
            for _ in range(rounds):
                self.once(newcomer, members, f"joining a mesh of {count}, {where}")

    def once(self, newcomer, members, title):
        first, *others = members
        asking = [Worker(answered_at, first, newcomer, 0.002)]
        asking += [Worker(answered_at, one, newcomer, 0.02) for one in others]
        time.sleep(0.1)
        start = time.monotonic()
        newcomer.start()
        times = [worker.outcome(40) - start for worker in asking]
        self.times.add(f"{title}: first answered ping of one of them", times[0])
        self.times.add(f"{title}: of all of them", max(times))
        self.report(f"{title}: {times[0]:.3f} s, all {max(times):.3f} s")
        newcomer.call("leave")
        newcomer.process.wait(10)
        shutil.rmtree(newcomer.state)
        wait_until(lambda: not any(one.peer(newcomer) for one in members[:3]), 10, "it was not forgotten")


def answered_at(member, other, every):
    reach(member.place, other.inner, 30, every)
    return time.monotonic()


def has_etcd():
    return all(shutil.which(program) for program in ("etcd", "etcdctl", "openssl"))


def measure_joining(options, times, report):
    joining = Joining(times, report)
    joining.measure(3, 3 if options.short else 10)
    if not options.short:
        joining.measure(20, 5)
    if has_etcd():
        joining.measure(3, 2 if options.short else 10, True)
    else:
        report("SKIPPED: joining with etcd: there is none")


def measure_recovery(options, times, report):
    Recovery(options.short, times, report).of_a_pair()


def measure_partitions(options, times, report):
    Recovery(options.short, times, report).partitions()


def measure_switching(options, times, report):
    Recovery(options.short, times, report).switched()


def measure_recovery_with_etcd(options, times, report):
    Recovery(options.short, times, report).with_etcd()
