"""What takes longer than a session lives."""

import time

from lab import expect
from traffic import ping

from checks import beside

REKEY_AFTER = 120


@beside
def a_session_is_replaced_under_traffic_without_a_lost_ping(lab):
    """A ping every 50 ms for 135 s, both ways; new keys come after 120 s."""
    one, other = lab.pair()
    start = time.monotonic()
    handshakes = []

    def over():
        if not handshakes and time.monotonic() - start > 1:
            handshakes.append(one.handshake(other))
        return time.monotonic() - start > REKEY_AFTER + 15

    pings = ping(one.place, other.inner(), count=1 << 30, interval=0.05, until=over)
    latest = one.handshake(other)
    lab.note(f"{pings.sent} pings, new keys after {latest - handshakes[0]} s")
    expect(pings.lost == 0, f"{pings.lost} of {pings.sent} pings were lost")
    expect(handshakes[0] > 0, "there was no first handshake")
    expect(REKEY_AFTER - 2 <= latest - handshakes[0] <= REKEY_AFTER + 10,
           f"the latest handshake came {latest - handshakes[0]} s after the first one")
