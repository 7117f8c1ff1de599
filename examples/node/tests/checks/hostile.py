"""A bad line, and senders of garbage."""

import threading

from base64 import b64decode

from lab import Usage, expect
from traffic import Relay, Worker, expect_both_ways, expect_ping, flood, reach, transfer

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
