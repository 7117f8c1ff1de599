"""Who may send what to whom: keys, allowed IPs, and changes of both while the node runs."""

import socket

from lab import execute, expect, preshared_key, public_key
from traffic import expect_both_ways, expect_ping, expect_silence, ping, reach

from checks import check

# An unanswered initiation is repeated after five seconds and some jitter, and not before.
RETRY = 8


@check
def a_preshared_key_works(lab):
    one, other = lab.pair(psk=preshared_key())
    expect_both_ways(one, other)


@check
def a_wrong_preshared_key_is_refused_and_can_be_corrected(lab):
    psk = preshared_key()
    one, other = lab.pair(psk=psk)
    other.wg("set", "peer", one.public, "preshared-key", "/dev/stdin", given=preshared_key())
    expect_silence(one.place, other.inner(), seconds=0.8)
    expect(one.handshake(other) == 0, "a handshake succeeded with a wrong preshared key")
    other.wg("set", "peer", one.public, "preshared-key", "/dev/stdin", given=psk)
    lab.note(f"corrected, {reach(one.place, other.inner(), RETRY):.1f} s")
    expect(one.handshake(other) > 0, "no handshake is shown")


@check
def an_unknown_key_is_refused_until_it_is_added(lab):
    one, other = lab.pair()
    other.forget(one)
    expect_silence(one.place, other.inner())
    expect(one.handshake(other) == 0, "a handshake succeeded with a removed peer")
    other.peer(one)
    expect_ping(other.place, one.inner(), RETRY)


@check
def a_private_key_is_changed_while_it_runs(lab):
    one, other = lab.pair()
    expect_both_ways(one, other)
    former, one.private = one.public, execute("wg", "genkey").stdout.strip()
    one.public = public_key(one.private)
    one.wg("set", "private-key", "/dev/stdin", given=one.private)
    expect(one.wg("show", "public-key").stdout.strip() == one.public, "another public key is shown")
    expect_silence(one.place, other.inner())
    other.wg("set", "peer", former, "remove")
    other.peer(one)
    expect_both_ways(other, one, RETRY)


@check
def a_private_key_is_taken_away_and_given_back(lab):
    one, other = lab.pair()
    expect_ping(one.place, other.inner())
    one.wg("set", "private-key", "/dev/null")
    expect(one.wg("show", "private-key").stdout.strip() == "(none)", "a private key is still shown")
    expect_silence(one.place, other.inner())
    one.wg("set", "private-key", "/dev/stdin", given=one.private)
    expect_both_ways(one, other, RETRY)


@check
def a_removed_peer_is_silent_until_it_is_added_again(lab):
    """With the same endpoint, and with another one."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    for port in (one.port, 40404):
        other.forget(one)
        expect(other.show("endpoints") == {}, "a removed peer is shown")
        expect_silence(one.place, other.inner())
        one.wg("set", "listen-port", port)
        one.port = port
        other.peer(one)
        expect_ping(other.place, one.inner(), RETRY)
        expect_ping(one.place, other.inner(), RETRY)


@check
def a_source_outside_of_the_allowed_ips_is_dropped(lab):
    """The encrypted packet arrives at the node; the packet inside of it does not get out of it."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    one.place.ip("addr", "add", "10.77.0.99/32", "dev", one.device)
    one.place.ip("addr", "add", "fd77::99/128", "dev", one.device, "nodad")
    other.place.watch("prerouting", arrived="iif cable udp dport 51820",
                      got_in=f"iifname {other.device} icmp type echo-request",
                      got_in6=f"iifname {other.device} icmpv6 type echo-request")
    expect_silence(one.place, other.inner(4), source="10.77.0.99")
    expect_silence(one.place, other.inner(6), source="fd77::99")
    expect(other.place.count("arrived") == 4, "not all four packets arrived at the node")
    expect(other.place.count("got_in") == other.place.count("got_in6") == 0, "a packet got through")
    expect_ping(one.place, other.inner(4), source=one.inner(4))
    expect_ping(one.place, other.inner(6), source=one.inner(6))
    expect(other.place.count("got_in") == other.place.count("got_in6") == 3, "the counters do not count")


def expect_unreachable(place, target):
    pings = ping(place, target, count=2, interval=0.1, wait=1)
    expect(not pings.times, f"{target} answered")
    expect(pings.unreachable == 2, f"{pings.unreachable} of 2 pings to {target} were reported as unreachable")


@check
def a_destination_without_a_peer_is_reported_as_unreachable(lab):
    one, other = lab.pair()
    expect_ping(one.place, other.inner())
    expect_unreachable(one.place, "10.77.0.200")
    expect_unreachable(one.place, "fd77::200")
    expect_both_ways(one, other)


@check
def a_peer_without_an_endpoint_is_reported_as_unreachable(lab):
    one, other = lab.pair()
    one.forget(other)
    one.peer(other, endpoint=0)
    expect_unreachable(one.place, other.inner(4))
    expect_unreachable(one.place, other.inner(6))
    expect_ping(other.place, one.inner(), RETRY)
    expect_both_ways(one, other)


def who_is(asker, address):
    """The name that the place behind an address answers with."""
    with asker.open() as question:
        question.settimeout(2)
        question.sendto(b"?", (address, 7777))
        return question.recv(100)


@check
def allowed_ips_move_between_peers_while_it_runs(lab):
    """Each of two peers has the same address and another name; the one with the allowed IP answers."""
    from traffic import Worker
    hub, leaves = lab.star(2)

    def answer(name, listener):
        with listener:
            while True:
                _, asker = listener.recvfrom(100)
                listener.sendto(name, asker)

    hub.place.ip("route", "add", "10.99.0.9", "dev", hub.device)
    for name, leaf in zip((b"first", b"second"), leaves):
        leaf.place.ip("addr", "add", "10.99.0.9/32", "dev", "lo")
        with leaf.place:
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("10.99.0.9", 7777))
        Worker(answer, name, listener)
        expect_ping(leaf.place, hub.inner())
    for name, leaf in [(b"first", leaves[0]), (b"second", leaves[1]), (b"first", leaves[0])]:
        hub.wg("set", "peer", leaf.public, "allowed-ips", f"{leaf.inner(4)}/32,{leaf.inner(6)}/128,10.99.0.9/32")
        owners = [key for key, value in hub.show("allowed-ips").items() if "10.99.0.9/32" in value]
        expect(owners == [leaf.public], "the address does not belong to exactly the peer that it was given to")
        answered = who_is(hub.place, "10.99.0.9")
        expect(answered == name, f"{answered} answered instead of {name}")
    # The most specific one decides.
    hub.wg("set", "peer", leaves[1].public, "allowed-ips", f"{leaves[1].inner(4)}/32,10.99.0.0/24")
    expect(who_is(hub.place, "10.99.0.9") == b"first", "a shorter prefix won against a longer one")
