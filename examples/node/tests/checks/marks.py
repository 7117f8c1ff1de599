"""What is seen from outside: marks, DSCP and ECN, and the keepalives."""

import time

from lab import PORT, expect
from traffic import end_of, expect_both_ways, expect_ping, expect_silence

from checks import check

INITIATION, RESPONSE, KEEPALIVE = (f"udp length {8 + length}" for length in (148, 92, 32))


@check
def a_mark_is_on_every_outer_packet(lab):
    """A routing rule for it, into the void, stops the tunnel, and only while the mark is set."""
    one, other = lab.pair()
    one.place.watch("output", marked="oif cable udp dport 51820 meta mark 0x51",
                    plain="oif cable udp dport 51820 meta mark 0")
    expect_both_ways(one, other)
    expect(one.place.count("marked") == 0 and one.place.count("plain") > 0, "there is a mark before it is set")
    one.wg("set", "fwmark", "0x51")
    before = one.place.count("plain")
    expect_both_ways(one, other)
    expect(one.place.count("marked") >= 12, "the mark is missing")
    expect(one.place.count("plain") == before, "not every packet is marked")
    one.place.ip("route", "add", "default", "via", "192.0.2.99", "dev", "cable", "table", "100")
    one.place.ip("rule", "add", "fwmark", "0x51", "lookup", "100", "pref", "10")
    expect_silence(one.place, other.inner())
    one.wg("set", "fwmark", 0)
    expect_both_ways(one, other, within=7)


@check
def a_keepalive_set_while_it_runs_is_sent_until_it_is_turned_off(lab):
    one, other = lab.pair()
    expect_ping(one.place, other.inner())
    other.place.watch("prerouting", alive=f"iif cable ip saddr {one.place.outer()} {KEEPALIVE}")
    one.peer(other, "persistent-keepalive", 1)
    time.sleep(3.6)
    sent = other.place.count("alive")
    expect(3 <= sent <= 4, f"{sent} keepalives were sent in 3.6 s at an interval of 1 s")
    one.peer(other, "persistent-keepalive", "off")
    sent = other.place.count("alive")
    time.sleep(2.2)
    expect(other.place.count("alive") == sent, "keepalives go on after they were turned off")


@check
def a_keepalive_alone_makes_a_handshake(lab):
    one, other = lab.pair()
    one.peer(other, "persistent-keepalive", 5)
    until = end_of(2)
    while not (one.handshake(other) and other.handshake(one)):
        expect(not until.is_set(), "there was no handshake")
        time.sleep(0.02)


def send_with_tos(one, other, family, tos):
    """Sends a datagram with a traffic class, and returns the traffic class that it arrives with."""
    taken, port = other.place.listening(other.inner(family))
    level, take, give, kind = (0, 13, 1, 1) if family == 4 else (41, 66, 67, 67)
    with taken, one.place.open(family) as out:
        taken.settimeout(2)
        taken.setsockopt(level, take, 1)
        out.setsockopt(level, give, tos)
        out.sendto(b"marked", (other.inner(family), port))
        _, control, _, _ = taken.recvmsg(100, 100)
    return [data[0] for where, what, data in control if (where, what) == (level, kind)][0]


@check
def handshakes_carry_the_class_0x88(lab):
    for outer in (4, 6):
        one, other = lab.pair(outer=outer)
        header = "ip" if outer == 4 else "ip6"
        for tunnel in (one, other):
            tunnel.place.watch("prerouting", **{
                "handshakes": f"iif cable udp length {{ 156, 100 }} udp sport {PORT}",
                "right": f"iif cable udp length {{ 156, 100 }} {header} dscp af41 {header} ecn not-ect"})
        expect_both_ways(one, other)
        for tunnel in (one, other):
            expect(tunnel.place.count("handshakes") > 0, "no handshake was seen")
            expect(tunnel.place.count("right") == tunnel.place.count("handshakes"),
                   f"a handshake over IPv{outer} has another class than 0x88")


@check
def data_packets_show_the_ecn_of_the_inner_packet_and_no_dscp(lab):
    for outer in (4, 6):
        one, other = lab.pair(outer=outer)
        expect_both_ways(one, other)
        header = "ip" if outer == 4 else "ip6"
        for family in (4, 6):
            # What is marked inside already begins unmarked outside, as the kernel has it.
            for ecn, name in ((0, "not-ect"), (1, "ect1"), (2, "ect0"), (3, "ect0")):
                other.place.watch("prerouting", data="iif cable udp dport 51820 udp length > 40",
                                  right=f"iif cable udp length > 40 {header} dscp cs0 {header} ecn {name}")
                arrived = send_with_tos(one, other, family, 0xB8 | ecn)
                expect(arrived == 0xB8 | ecn, f"the inner packet came with {arrived:#x}, not {0xB8 | ecn:#x}")
                expect(other.place.count("data") == 1, "not exactly one data packet was seen")
                expect(other.place.count("right") == 1, f"the outer packet (IPv{outer}) of an inner one (IPv{family}) "
                       f"with {name} has another ECN, or a DSCP")
                other.place.forget()


@check
def congestion_that_is_marked_on_the_way_reaches_the_inner_packet(lab):
    for outer in (4, 6):
        one, other = lab.pair(outer=outer)
        expect_both_ways(one, other)
        header = "ip" if outer == 4 else "ip6"
        other.place.nft(f"chain congested {{ type filter hook prerouting priority 0;\n"
                        f"iif cable {header} ecn ect0 {header} ecn set ce\n}}")
        for family in (4, 6):
            arrived = send_with_tos(one, other, family, 0x2A)
            expect(arrived == 0x2B, f"an inner packet with 0x2a arrived with {arrived:#x}, not 0x2b")
            arrived = send_with_tos(one, other, family, 0x28)
            expect(arrived == 0x28, f"an inner packet with 0x28 arrived with {arrived:#x}")
