"""Addresses and ports change, and nobody is told."""

from lab import expect
from traffic import expect_both_ways, expect_ping, transfer

from checks import check


def expect_endpoint(tunnel, peer, host, port):
    endpoint = tunnel.show("endpoints")[peer.public]
    wanted = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    expect(endpoint == wanted, f"the endpoint is {endpoint}, not {wanted}")


@check
def a_changed_port_is_followed_from_either_end(lab):
    one, other = lab.pair()
    expect_both_ways(one, other)
    for mover, stays, port in ((one, other, 40001), (other, one, 40002), (one, other, 40003)):
        mover.wg("set", "listen-port", port)
        expect(mover.wg("show", "listen-port").stdout.strip() == str(port), "another port is shown")
        expect_both_ways(mover, stays)
        expect_endpoint(stays, mover, mover.place.outer(), port)
    transfer(one.place, other.place, other.inner(), 1 << 20)


@check
def a_port_of_the_systems_choice_is_shown_and_followed(lab):
    one, other = lab.pair()
    one.wg("set", "listen-port", 0)
    port = int(one.wg("show", "listen-port").stdout)
    expect(port not in (0, one.port), f"the port is {port}")
    expect_both_ways(one, other)
    expect_endpoint(other, one, one.place.outer(), port)


def move(tunnel, family, former, new):
    length = 24 if family == 4 else 64
    options = ["nodad"] if family == 6 else []
    tunnel.place.ip("addr", "del", f"{former}/{length}", "dev", "cable")
    tunnel.place.ip("addr", "add", f"{new}/{length}", "dev", "cable", *options)


def addresses_change(lab, family, prefix):
    one, other = lab.pair(outer=family)
    expect_both_ways(one, other)
    for number, (mover, stays) in enumerate([(one, other), (other, one), (one, other)]):
        former = mover.place.outer(family) if number < 2 else f"{prefix}50"
        new = f"{prefix}{50 + number}"
        move(mover, family, former, new)
        expect_ping(mover.place, stays.inner(), within=3)
        expect_both_ways(mover, stays)
        expect_endpoint(stays, mover, new, mover.port)
    transfer(one.place, other.place, other.inner(), 1 << 20)


@check
def a_changed_ipv4_address_is_followed_from_either_end(lab):
    addresses_change(lab, 4, "192.0.2.")


@check
def a_changed_ipv6_address_is_followed_from_either_end(lab):
    addresses_change(lab, 6, "2001:db8::")


@check
def an_endpoint_changes_its_family(lab):
    """Told to one end only, the other one learns it from what arrives."""
    one, other = lab.pair()
    expect_both_ways(one, other)
    one.peer(other, endpoint=6)
    expect_both_ways(one, other)
    expect_endpoint(other, one, one.place.outer(6), one.port)
    other.peer(one, endpoint=4)
    expect_both_ways(other, one)
    expect_endpoint(one, other, other.place.outer(4), other.port)


@check
def answers_leave_from_the_address_that_was_asked(lab):
    """A node with two addresses answers from the one that its peer sends to."""
    one, other = lab.pair()
    other.place.ip("addr", "add", "192.0.2.77/24", "dev", "cable")
    one.wg("set", "peer", other.public, "endpoint", f"192.0.2.77:{other.port}")
    one.place.watch("prerouting", right="iif cable ip saddr 192.0.2.77 udp sport 51820",
                    wrong=f"iif cable ip saddr {other.place.outer()} udp sport 51820")
    expect_ping(one.place, other.inner(), count=5)
    expect(one.place.count("right") >= 5, "the answers did not come from the address that was asked")
    expect(one.place.count("wrong") == 0, "an answer came from another address than the one that was asked")
