"""A bad line, and senders of garbage."""

import random
import socket
import threading
import time

from base64 import b64decode

from lab import Lab, Skip, Usage, expect
from traffic import Relay, Worker, drown, expect_both_ways, expect_ping, flood, ping, reach, transfer

from checks import check

MEGABYTE = 1 << 20


@check
def a_line_that_loses_doubles_and_reorders_is_survived(lab):
    """5 % lost, 5 % doubled, 10 % late by 1 to 5 ms; TCP arrives unchanged both ways."""
    one, other = lab.pair()
    relay = Relay(one.place, other.place, one.port)
    try:
        one.wg("set", "peer", other.public, "endpoint", relay.end(one.place))
        other.wg("set", "peer", one.public, "endpoint", relay.end(other.place))
        reach(one.place, other.inner(), 16)
        there = transfer(one.place, other.place, other.inner(), 2 * MEGABYTE)
        back = transfer(other.place, one.place, one.inner(6), 2 * MEGABYTE)
    finally:
        relay.close()
    lab.note(f"{there:.1f} and {back:.1f} s, {relay.dropped} of {relay.seen} datagrams lost")
    expect(relay.dropped > relay.seen / 40, "the line was not as bad as it should have been")


def flooded(lab, family, megabytes):
    one, other = lab.pair(outer=family)
    expect_both_ways(one, other)
    before = Usage(one.pid)
    over = threading.Event()
    address = (one.place.outer(family), one.port)
    attack = Worker(flood, other.place, address, b64decode(one.public), over)
    try:
        there = transfer(one.place, other.place, other.inner(), megabytes * MEGABYTE, timeout=60)
        back = transfer(other.place, one.place, one.inner(6), megabytes * MEGABYTE, timeout=60)
        expect_ping(one.place, other.inner(), count=50, interval=0.02, within=3)
    finally:
        over.set()
    sent = attack.outcome(5)
    after = Usage(one.pid)
    grown = (after.rss_kib - before.rss_kib) / 1024
    lab.note(f"{sent} datagrams, {there:.1f} and {back:.1f} s, RSS {grown:+.1f} MiB")
    expect(grown < 64, f"the flood has made it grow by {grown:.0f} MiB")
    expect(after.descriptors <= before.descriptors, "the flood has made it open descriptors")
    expect(set(one.show("endpoints")) == {other.public}, "the flood has changed the peers")
    endpoint = one.show("endpoints")[other.public]
    expect(endpoint.endswith(f":{other.port}"), f"the flood has changed the endpoint to {endpoint}")
    expect_both_ways(one, other, within=7)


@check
def a_flood_of_garbage_and_of_false_handshakes_is_survived(lab):
    """Some of the false handshakes have a right first MAC, so that they cost the most."""
    flooded(lab, 4, 32)


@check
def the_same_flood_over_ipv6_is_survived(lab):
    flooded(lab, 6, 8)


@check
def a_new_peer_gets_in_during_the_flood(lab):
    """With the cookie that it has to answer with, within two tries of a handshake."""
    one, other = lab.pair()
    over = threading.Event()
    attack = Worker(flood, other.place, (one.place.outer(), one.port), b64decode(one.public), over)
    try:
        lab.note(f"after {reach(other.place, one.inner(), 16):.1f} s")
    finally:
        over.set()
    attack.outcome(5)


@check
def a_flood_over_one_family_does_not_silence_the_other(lab):
    """As much as two senders can: the socket that is flooded is never empty, the other one is served."""
    for flooded_family, family in ((4, 6), (6, 4)):
        with Lab() as own:
            one, other = (own.tunnel(place).start().set_up() for place in own.add_places(2, whole=True))
            one.peer(other, endpoint=family)
            other.peer(one, endpoint=family)
            expect_both_ways(one, other)
            address = (one.place.outer(flooded_family), one.port)
            attack = [drown(other.place, address) for _ in range(2)]
            time.sleep(0.5)
            pings = ping(other.place, one.inner(), count=50, interval=0.03, wait=1)
            for process in attack:
                process.kill()
        waited = pings.percentile(0.5) if pings.times else 9
        lab.note(f"IPv{family}: {waited * 1000:.0f} ms, {pings.lost} lost")
        expect(waited < 0.5, f"half of the pings over IPv{family} took more than {waited:.1f} s")


def paced(place, address, until):
    """Sends 100 Mbit/s."""
    with place.open() as out:
        while not until.is_set():
            for _ in range(40):
                out.sendto(bytes(1300), address)
            time.sleep(0.004)


@check
def a_peer_behind_a_slow_line_holds_up_nobody_else(lab):
    """Its line takes a twentieth of what it is sent, and has a queue that is longer than any socket's."""
    hub, fast = lab.pair()
    (far,) = lab.add_places(1)
    far.number = 3
    hub.place.ip("link", "add", "slow", "type", "veth", "peer", "name", "slow", "netns", far.name)
    for number, place in enumerate((hub.place, far), 1):
        place.ip("addr", "add", f"198.51.100.{number}/24", "dev", "slow")
        place.ip("link", "set", "slow", "up")
    limits = ["rate", "5mbit", "burst", "100kb", "limit", "100mb"]
    if hub.place.run("tc", "qdisc", "add", "dev", "slow", "root", "tbf", *limits, check=False).returncode != 0:
        raise Skip("there is no tc, or its tbf is not in the kernel")
    slow = lab.tunnel(far).start().set_up()
    hub.wg("set", "peer", slow.public, "allowed-ips", slow.inner(), "endpoint", f"198.51.100.2:{slow.port}")
    slow.wg("set", "peer", hub.public, "allowed-ips", hub.inner(), "endpoint", f"198.51.100.1:{hub.port}")
    reach(hub.place, slow.inner(), 8)
    expect_both_ways(hub, fast)
    over = threading.Event()
    load = Worker(paced, hub.place, (slow.inner(), 9), over)
    try:
        time.sleep(3)
        pings = ping(fast.place, hub.inner(), count=50, interval=0.02, wait=1)
    finally:
        over.set()
    load.outcome(5)
    expect(pings.lost <= 5, f"{pings.lost} of {pings.sent} pings of the other peer were lost")


def malformed(target):
    """Packets that are none, or not quite, some of them with a source and a destination that pass."""
    seed = random.Random(3)
    four = bytes([10, 77, 0, 1, 10, 77, 0, target])
    six = bytes.fromhex(f"fd77{'00' * 13}01fd77{'00' * 13}{target:02x}")
    for _ in range(200):
        body = seed.randbytes(seed.randrange(0, 1300))
        yield 4, seed.randbytes(seed.randrange(1, 60))
        yield 4, bytes([seed.randrange(256)]) + body
        # Lengths of header and packet, fragments and protocols as they come, but addresses that fit.
        yield 4, bytes([0x40 | seed.randrange(16)]) + seed.randbytes(11) + four + body
        yield 4, b"\x45\0" + seed.randbytes(7) + seed.choice((b"\1", b"\6", b"\x11")) + b"\0\0" + four + body
        yield 6, b"\x60" + seed.randbytes(7) + six + body
        yield 6, b"\x60\0\0\0" + seed.randbytes(2) + seed.choice((b"\0", b"\6", b"\x11", b"\x2c")) + b"\1" + six + body
        yield 6, seed.randbytes(seed.randrange(1, 40))
        # Whole in IP, and nonsense in what it carries.
        protocol = seed.choice((1, 6, 17, 58, 132))
        length = (20 + len(body)).to_bytes(2, "big")
        yield 4, b"\x45\0" + length + bytes(5) + bytes([protocol, 0, 0]) + four + body
        yield 6, b"\x60\0\0\0" + len(body).to_bytes(2, "big") + bytes([protocol, 1]) + six + body


@check
def malformed_packets_inside_are_survived_at_both_ends(lab):
    """Given to the device of one node as the system gives its own; some arrive at the other one."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    before, passed_on = other.transfer(one)[0], 0
    with one.place:
        giver = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with giver:
        for family, packet in malformed(other.place.number):
            try:
                giver.sendto(packet, (one.device, 0x0800 if family == 4 else 0x86DD))
                passed_on += 1
            except OSError:
                # The system itself does not take it.
                pass
    lab.expect_alive()
    expect_both_ways(one, other)
    arrived = other.transfer(one)[0] - before
    lab.note(f"{passed_on} packets, {arrived} bytes at the other end")
    expect(arrived > 100_000, "not even those arrived of which only the content is nonsense")
    transfer(one.place, other.place, other.inner(), 4 * MEGABYTE)
