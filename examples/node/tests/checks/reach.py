"""Packets cross the tunnel: pings of every size, and transfers, of both families over both families."""

import threading
import time

from lab import MTU, expect
from traffic import Worker, burst, datagrams, expect_both_ways, expect_ping, ping, reach, transfer

from checks import check

MEGABYTE = 1 << 20


def everything(lab, kinds, outer, megabytes):
    """Pings, two transfers and datagrams, both ways, between two implementations."""
    one, other = lab.pair(kinds, outer)
    expect_both_ways(one, other)
    for family in (4, 6):
        transfer(one.place, other.place, other.inner(family), megabytes * MEGABYTE)
        transfer(other.place, one.place, one.inner(family), megabytes * MEGABYTE, streams=4)
        datagrams(one.place, other.place, other.inner(family), range(1, 1401, 7))
        datagrams(other.place, one.place, one.inner(family), range(5, 1401, 7))


@check
def two_nodes_reach_each_other_over_ipv4(lab):
    one, other = lab.pair()
    expect_both_ways(one, other, count=20)


@check
def two_nodes_reach_each_other_over_ipv6(lab):
    one, other = lab.pair(outer=6)
    expect_both_ways(one, other, count=20)


@check
def tcp_arrives_unchanged_in_one_and_in_four_streams(lab):
    one, other = lab.pair()
    for streams in (1, 4):
        there = transfer(one.place, other.place, other.inner(), 64 * MEGABYTE, streams)
        back = transfer(other.place, one.place, one.inner(), 64 * MEGABYTE, streams)
        lab.note(f"{streams} streams: {512 * 1.048576 / there:.0f} and {512 * 1.048576 / back:.0f} Mbit/s")


@check
def tcp_inside_ipv6_arrives_unchanged_over_ipv6(lab):
    one, other = lab.pair(outer=6)
    transfer(one.place, other.place, other.inner(6), 64 * MEGABYTE)
    transfer(other.place, one.place, one.inner(6), 64 * MEGABYTE, 4)


@check
def tcp_both_ways_at_once_arrives_unchanged(lab):
    from traffic import Worker
    one, other = lab.pair()
    there = Worker(transfer, one.place, other.place, other.inner(), 32 * MEGABYTE)
    back = Worker(transfer, other.place, one.place, one.inner(6), 32 * MEGABYTE)
    there.outcome(60)
    back.outcome(60)


@check
def datagrams_of_every_size_arrive_unchanged(lab):
    """Also those that are longer than the MTU, in fragments."""
    one, other = lab.pair()
    for family in (4, 6):
        datagrams(one.place, other.place, other.inner(family), [*range(1, 1401), 1473, 3001, 9000, 65000])
        datagrams(other.place, one.place, one.inner(family), range(1, 1401, 3))


@check
def the_node_and_wireguard_go_carry_everything_over_ipv4(lab):
    everything(lab, ("node", "wireguard-go"), 4, 32)


@check
def the_node_and_wireguard_go_carry_everything_over_ipv6(lab):
    everything(lab, ("wireguard-go", "node"), 6, 32)


@check
def the_node_and_boringtun_carry_everything_over_ipv4(lab):
    everything(lab, ("node", "boringtun-cli"), 4, 16)


@check
def the_node_and_boringtun_carry_everything_over_ipv6(lab):
    everything(lab, ("boringtun-cli", "node"), 6, 16)


def expect_mtu(one, other, mtu):
    """Pings of exactly the MTU cross unfragmented both ways; longer ones are refused."""
    for place, family, target in [(one.place, 4, other.inner(4)), (other.place, 4, one.inner(4)),
                                  (one.place, 6, other.inner(6)), (other.place, 6, one.inner(6))]:
        headers = 28 if family == 4 else 48
        expect_ping(place, target, size=mtu - headers, df=True)
        refused = ping(place, target, count=1, size=mtu - headers + 1, df=True, wait=0)
        expect(refused.too_long == 1, f"a packet longer than the MTU of {mtu} was not refused")


@check
def pings_of_exactly_the_mtu_cross_and_longer_ones_are_refused(lab):
    one, other = lab.pair(outer=6)
    expect_mtu(one, other, MTU)


@check
def a_changed_mtu_is_followed_and_padding_never_exceeds_it(lab):
    """1285 is no multiple of 16; the outer packets get no longer than it, and its overhead."""
    one, other = lab.pair()
    for mtu in (1285, 1280, 1401, MTU):
        for tunnel in (one, other):
            tunnel.place.ip("link", "set", tunnel.device, "mtu", mtu)
            longest = 20 + 8 + 16 + mtu + 16
            tunnel.place.watch("prerouting", too_long=f"iif cable meta length > {longest}",
                               full=f"iif cable meta length {longest}")
        expect_mtu(one, other, mtu)
        transfer(one.place, other.place, other.inner(), 2 * MEGABYTE)
        transfer(other.place, one.place, one.inner(6), 2 * MEGABYTE)
        for tunnel in (one, other):
            expect(tunnel.place.count("full") > 0, f"nothing of the full length was seen at {mtu}")
            expect(tunnel.place.count("too_long") == 0, f"outer packets are longer than {mtu} allows")
            tunnel.place.forget()


@check
def a_path_narrower_than_a_full_datagram_is_survived(lab):
    """The kernel takes no train there: its datagrams go one by one, and in fragments."""
    for outer in (4, 6):
        one, other = lab.pair(outer=outer)
        expect_both_ways(one, other)
        for tunnel in (one, other):
            tunnel.place.ip("link", "set", "cable", "mtu", 1400)
        expect_ping(one.place, other.inner(), size=MTU - 28, df=True)
        transfer(one.place, other.place, other.inner(), 8 * MEGABYTE)
        transfer(other.place, one.place, one.inner(6), 8 * MEGABYTE)


@check
def a_very_small_mtu_is_survived(lab):
    """IPv6 is off below 1280; IPv4 goes on."""
    one, other = lab.pair()
    for mtu in (576, 68):
        for tunnel in (one, other):
            tunnel.place.ip("link", "set", tunnel.device, "mtu", mtu)
        expect_ping(one.place, other.inner(), size=mtu - 28, df=True)
        expect_ping(other.place, one.inner(), size=mtu - 28, df=True)


@check
def an_interface_goes_down_and_up_again(lab):
    one, other = lab.pair()
    expect_ping(one.place, other.inner())
    one.place.ip("link", "set", one.device, "down")
    pings = ping(other.place, one.inner(), count=2, wait=0.3)
    expect(not pings.times, "an interface that is down answers")
    one.place.ip("link", "set", one.device, "up")
    expect_ping(one.place, other.inner(), within=7)
    expect_ping(other.place, one.inner(), within=7)


@check
def taken_down_under_traffic_it_is_there_at_once_when_it_is_up_again(lab):
    """What the device still held must not have begun a handshake that nobody finishes."""
    one, other = lab.pair()
    expect_ping(one.place, other.inner())
    over = threading.Event()
    load = Worker(burst, one.place, (other.inner(), 9), over)
    time.sleep(0.5)
    one.place.ip("link", "set", one.device, "down")
    over.set()
    load.outcome(5)
    time.sleep(0.2)
    one.place.ip("link", "set", one.device, "up")
    taken = reach(one.place, other.inner(), 10)
    lab.note(f"after {taken * 1000:.0f} ms")
    expect(taken < 2, f"it took {taken:.1f} s")
