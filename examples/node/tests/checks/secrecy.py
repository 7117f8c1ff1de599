"""What a listener on the cable gets to see."""

import shutil
import time

from lab import PORT, Skip, expect, wait_until
from traffic import frames, is_neighbour_talk, udp_ports

from checks import check

MARKER = b"this sentence is to be read by the receiver alone"


def capture(lab, place, device):
    """Starts a capture, and returns the process and its file when it is running."""
    if shutil.which("tcpdump") is None:
        raise Skip("there is no tcpdump")
    path, log = lab.work / f"{device}.pcap", lab.work / f"tcpdump-{device}.log"
    process = place.start("tcpdump", "-U", "--immediate-mode", "-Z", "root", "-s", "0", "-i", device, "-w", path, log=log)
    wait_until(lambda: b"listening on" in log.read_bytes(), 5, "tcpdump did not start")
    return process, path


@check
def only_the_tunnel_is_seen_outside_and_nothing_of_what_is_inside(lab):
    one, other = lab.pair()
    captures = [capture(lab, other.place, "cable"), capture(lab, other.place, other.device)]
    for family in (4, 6):
        taken, port = other.place.listening(other.inner(family))
        with taken, one.place.open(family) as out:
            taken.settimeout(2)
            for _ in range(50):
                out.sendto(MARKER * 20, (other.inner(family), port))
                expect(taken.recv(4096) == MARKER * 20, "a datagram arrived changed")
    time.sleep(0.2)
    for process, _ in captures:
        process.terminate()
        process.wait(5)
    outside, inside = (path.read_bytes() for _, path in captures)
    expect(inside.count(MARKER) == 100 * 20, "the capture inside is not complete")
    expect(MARKER[:8] not in outside, "what is inside is seen outside")
    ports = [udp_ports(frame) for frame in frames(captures[0][1]) if not is_neighbour_talk(frame)]
    expect(len(ports) >= 102, f"{len(ports)} packets were captured outside")
    expect(set(ports) == {(PORT, PORT)}, f"other ports or protocols are seen outside: {set(ports)}")
