"""What a listener on the cable gets to see."""

from base64 import b64decode

from lab import PORT, expect, preshared_key
from traffic import Capture, expect_both_ways, is_neighbour_talk, udp_ports

from checks import check

MARKER = b"this sentence is to be read by the receiver alone"


@check
def only_the_tunnel_is_seen_outside_and_nothing_of_what_is_inside(lab):
    one, other = lab.pair()
    outside, inside = (Capture(other.place, device) for device in ("cable", other.device))
    for family in (4, 6):
        taken, port = other.place.listening(other.inner(family))
        with taken, one.place.open(family) as out:
            taken.settimeout(2)
            for _ in range(50):
                out.sendto(MARKER * 20, (other.inner(family), port))
                expect(taken.recv(4096) == MARKER * 20, "a datagram arrived changed")
    outside, inside = outside.end(), inside.end()
    expect(sum(packet.count(MARKER) for packet in inside) == 100 * 20, "the capture inside is not complete")
    expect(all(MARKER[:8] not in frame for frame in outside), "what is inside is seen outside")
    ports = [udp_ports(frame) for frame in outside if not is_neighbour_talk(frame)]
    expect(len(ports) >= 102, f"{len(ports)} packets were captured outside")
    expect(set(ports) == {(PORT, PORT)}, f"other ports or protocols are seen outside: {set(ports)}")


@check
def no_key_is_written_to_the_log(lab):
    """In any of the forms that a key is written in, at the level that says the most."""
    psk = preshared_key()
    one, other = (lab.tunnel(place) for place in lab.add_places(2))
    for tunnel in (one, other):
        tunnel.start("debug").set_up()
    one.peer(other, psk=psk)
    other.peer(one, psk=psk)
    expect_both_ways(one, other)
    one.wg("showconf")
    one.wg("set", "private-key", "/dev/stdin", given=preshared_key())
    log = one.log.read_text(errors="replace")
    expect(log, "nothing was written to the log")
    for key in (one.private, psk):
        raw = b64decode(key.strip())
        forms = key.strip().rstrip("="), raw.hex(), raw.hex().upper(), ", ".join(map(str, raw[:8]))
        expect(not any(form in log for form in forms), "a key is in the log")
