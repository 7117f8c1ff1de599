"""What travels through the tunnels, and beside them: pings, transfers, a bad line, floods.

Everything but `drown` and `iperf` runs in threads of this process; a socket belongs to the namespace that it was made
in, so that no other program is needed. All content is made from seeds.
"""

import errno
import hashlib
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time

from lab import ROOM, SO_RCVBUFFORCE, Failure, expect, wait_until

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG, DO = 10, 23, 62, 2
UDP_SEGMENT = 103


class Pings:
    """The outcome of a series of pings."""

    def __init__(self):
        self.sent_at = []
        self.times = {}
        self.unreachable = 0
        self.too_long = 0

    @property
    def sent(self):
        return len(self.sent_at)

    @property
    def lost(self):
        return self.sent - len(self.times)

    def percentile(self, share):
        ordered = sorted(self.times.values())
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class _Pinger:
    """One raw socket that sends echo requests and reads what comes back."""

    def __init__(self, place, target, size=56, df=False, tos=None, source=None, pings=None):
        self.six = ":" in target
        protocol = socket.IPPROTO_ICMPV6 if self.six else socket.IPPROTO_ICMP
        self.socket = place.open(6 if self.six else 4, socket.SOCK_RAW, protocol)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        level, discover = (41, IPV6_MTU_DISCOVER) if self.six else (0, IP_MTU_DISCOVER)
        if df:
            self.socket.setsockopt(level, discover, DO)
            if self.six:
                self.socket.setsockopt(level, IPV6_DONTFRAG, 1)
        if tos is not None:
            self.socket.setsockopt(level, 67 if self.six else 1, tos)
        if source:
            # Also addresses that no device has: what is to be dropped has to be sent first.
            self.socket.setsockopt(level, 75 if self.six else 15, 1)
            self.socket.bind((source, 0))
        self.target = target
        self.identity = random.getrandbits(16)
        self.filling = bytes(index & 0xFF for index in range(size))
        self.at = {}
        self.pings = pings or Pings()

    def send(self):
        number = self.pings.sent
        header = struct.pack("!BBHHH", 128 if self.six else 8, 0, 0, self.identity, number & 0xFFFF)
        if not self.six:
            header = header[:2] + checksum(header + self.filling) + header[4:]
        self.pings.sent_at.append(time.monotonic())
        self.at[number & 0xFFFF] = number
        try:
            self.socket.sendto(header + self.filling, (self.target, 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                self.pings.too_long += 1
            elif error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.ENODEV):
                raise

    def receive(self):
        packet = self.socket.recv(65535)
        now = time.monotonic()
        message = packet if self.six else packet[(packet[0] & 15) * 4:]
        kind, _, _, identity, number = struct.unpack_from("!BBHHH", message)
        if kind == (129 if self.six else 0) and identity == self.identity and number in self.at:
            if message[8:] != self.filling:
                raise Failure(f"the answer of {self.target} has another content than the question")
            number = self.at.pop(number)
            self.pings.times[number] = now - self.pings.sent_at[number]
        elif kind == (1 if self.six else 3):
            quoted = message[8 + 40:] if self.six else message[8 + (message[8] & 15) * 4:]
            if len(quoted) >= 8 and struct.unpack_from("!H", quoted, 4)[0] == self.identity:
                self.pings.unreachable += 1

    def read_until(self, deadline, enough=lambda: False):
        while not enough():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return
            self.receive()


def ping(place, target, count=3, interval=0.01, size=56, df=False, wait=2.0, tos=None, source=None,
         until=None, into=None):
    """Pings; an answer counts if it comes within `wait` seconds of the last question.

    With `until`, an event or a function, pings go on until it is set or true, or `count` is reached.
    The outcome is written to `into`, which others may look at meanwhile.
    """
    pinger = _Pinger(place, target, size, df, tos, source, into)
    over = until.is_set if hasattr(until, "is_set") else until or (lambda: False)
    with pinger.socket:
        next_at = time.monotonic()
        while pinger.pings.sent < count and not over():
            pinger.send()
            next_at += interval
            pinger.read_until(next_at)
        pings = pinger.pings

        def settled():
            return pings.lost - pings.too_long <= pings.unreachable

        pinger.read_until(time.monotonic() + wait, settled)
    return pings


def expect_ping(place, target, within=2.0, **options):
    """All pings are answered."""
    pings = ping(place, target, wait=within, **options)
    expect(pings.lost == 0, f"{pings.lost} of {pings.sent} pings to {target} {options or ''} were lost")
    return pings


def expect_silence(place, target, seconds=0.4, **options):
    """No ping is answered."""
    pings = ping(place, target, count=2, wait=seconds, **options)
    expect(not pings.times, f"{target} {options or ''} answered, and should not")
    return pings


def reach(place, target, within, interval=0.05):
    """Pings until the first answer, and returns the seconds to it."""
    start = time.monotonic()
    found = []
    pinger = _Pinger(place, target)
    with pinger.socket:
        while not found:
            expect(time.monotonic() - start < within, f"{target} was not reached within {within} s")
            pinger.send()
            pinger.read_until(time.monotonic() + interval, lambda: pinger.pings.times)
            found = pinger.pings.times
    return time.monotonic() - start


def expect_both_ways(one, other, within=2.0, families=(4, 6), **options):
    """Pings from both tunnels to each other, of both families."""
    for family in families:
        expect_ping(one.place, other.inner(family), within, **options)
        expect_ping(other.place, one.inner(family), within, **options)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


class Worker(threading.Thread):
    """A thread whose exception is raised where it is joined."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.result, self.error = work, arguments, None, None
        self.start()

    def run(self):
        try:
            self.result = self.work(*self.arguments)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def outcome(self, within):
        self.join(within)
        expect(not self.is_alive(), f"{self.work.__name__} did not end within {within} s")
        if self.error:
            raise self.error
        return self.result


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def _take(listener, timeout):
    connection, _ = listener.accept()
    digest = hashlib.sha256()
    with connection:
        connection.settimeout(timeout)
        while block := connection.recv(1 << 18):
            digest.update(block)
        connection.sendall(digest.digest())


def _give(sender, address, data, timeout):
    with sender.open(6 if ":" in address[0] else 4, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(address)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while len(answer) < 32 and (block := connection.recv(32)):
            answer += block
    expect(answer == hashlib.sha256(data).digest(), f"{len(data)} bytes arrived changed at {address[0]}")


def transfer(sender, receiver, address, size, streams=1, timeout=60):
    """Sends `size` bytes over TCP, in parallel streams; the receiver answers with what it got.

    Returns the seconds that it took.
    """
    listener, port = receiver.listening(address, socket.SOCK_STREAM)
    parts = [content(size // streams, seed) for seed in range(streams)]
    start = time.monotonic()
    with listener:
        listener.listen(streams)
        listener.settimeout(timeout)
        takers = [Worker(_take, listener, timeout) for _ in parts]
        givers = [Worker(_give, sender, (address, port), part, timeout) for part in parts]
        try:
            for worker in givers + takers:
                worker.outcome(timeout)
        except OSError as error:
            raise Failure(f"a transfer of {size} bytes to {address}: {error}") from error
    return time.monotonic() - start


def datagrams(sender, receiver, address, sizes):
    """Sends one datagram of every size, at a bounded rate, and expects each of them unchanged."""
    taken, port = receiver.listening(address)
    sent = [content(size, size) for size in sizes]
    missing = set(sent)
    with taken, sender.open(6 if ":" in address else 4) as giver:
        taken.settimeout(2)
        for index, data in enumerate(sent):
            giver.sendto(data, (address, port))
            if index % 32 == 31:
                for _ in range(32):
                    missing.discard(_receive(taken, len(missing)))
        for _ in range(len(sent) % 32):
            missing.discard(_receive(taken, len(missing)))
    expect(not missing, f"{len(missing)} of {len(sent)} datagrams to {address} arrived changed or not at all")


def _receive(taken, missing):
    try:
        return taken.recv(65535)
    except TimeoutError:
        raise Failure(f"a datagram was lost, {missing} were still to come") from None


# Of shaped cables, as `tc` writes them.
RATES = {"1": "1gbit", "2.5": "2500mbit"}


def shape(places, rate):
    """Makes the cable of these places a token bucket in each direction, or with None what it was."""
    for place in places:
        place.run("tc", "qdisc", "del", "dev", "cable", "root", check=False)
        if rate:
            place.run("tc", "qdisc", "add", "dev", "cable", "root", "tbf", "rate", rate, "burst", "128kb",
                      "latency", "5ms")


def iperf(sender, receiver, address, seconds, *words):
    """One run of iperf3 with a server of its own, and what it says at its end."""
    log = receiver.lab.work / "iperf3.log"
    log.write_text("")
    server = receiver.start("iperf3", "-s", "-1", "--forceflush", log=log)
    wait_until(lambda: "listening" in log.read_text(), 5, "iperf3 did not start")
    try:
        done = sender.run("iperf3", "-J", "-c", address, "-t", seconds, *words, check=False, timeout=seconds + 20)
    finally:
        # It ends by itself, if the tunnel has let it know of the end.
        if server.poll() is None:
            time.sleep(0.1)
            server.kill()
        server.wait()
    said = json.loads(done.stdout or '{"error": "nothing was said"}')
    if "error" in said:
        raise Failure(f"iperf3 {' '.join(map(str, words))} to {address}: {said['error']}")
    return said["end"]


class Relay:
    """A bad line: a pair of sockets, one in each place, between which datagrams are handed over.

    Some are lost, some come twice, some late and so after later ones. Seen from each end, the other one
    is at `end(place)`.
    """

    def __init__(self, one, other, port, lost=0.05, doubled=0.05, late=0.1, seed=1):
        self.chances = lost, doubled, late
        self.random = random.Random(seed)
        self.stopped = threading.Event()
        self.seen = self.dropped = 0
        self.sides = {}
        for place in (one, other):
            made, own = place.listening(place.outer())
            self.sides[place] = (made, own, (place.outer(), port))
        self.threads = [Worker(self._carry, one, other), Worker(self._carry, other, one)]

    def end(self, place):
        return f"{place.outer()}:{self.sides[place][1]}"

    def _carry(self, source, target):
        taken = self.sides[source][0]
        out, _, address = self.sides[target]
        late = []
        lost, doubled, delayed = self.chances
        while not self.stopped.is_set():
            wait = max(0.0, late[0][0] - time.monotonic()) if late else 0.1
            if select.select([taken], [], [], wait)[0]:
                data = taken.recv(65535)
                self.seen += 1
                chance = self.random.random
                if chance() < lost:
                    self.dropped += 1
                    continue
                for _ in range(2 if chance() < doubled else 1):
                    if chance() < delayed:
                        late.append((time.monotonic() + 0.001 + 0.004 * chance(), data))
                        late.sort()
                    else:
                        out.sendto(data, address)
            while late and late[0][0] <= time.monotonic():
                out.sendto(late.pop(0)[1], address)

    def close(self):
        self.stopped.set()
        for thread in self.threads:
            thread.outcome(5)
        for made, _, _ in self.sides.values():
            made.close()


def initiation(receiver_key, seed):
    """A handshake initiation of random content, with a right first MAC."""
    message = b"\1\0\0\0" + seed.randbytes(112)
    key = hashlib.blake2s(b"mac1----" + receiver_key).digest()
    return message + hashlib.blake2s(message, key=key, digest_size=16).digest() + bytes(16)


def garbage(receiver_key, seed):
    """Datagrams without end: of any length, of right types and lengths, and with a right first MAC."""
    while True:
        yield seed.randbytes(seed.randrange(1, 1500))
        yield bytes([seed.randrange(256), 0, 0, 0]) + seed.randbytes(seed.randrange(0, 200))
        yield b"\1\0\0\0" + seed.randbytes(144)
        yield b"\2\0\0\0" + seed.randbytes(88)
        yield b"\3\0\0\0" + seed.randbytes(60)
        yield b"\4\0\0\0" + seed.randbytes(12 + 16 * seed.randrange(1, 80))
        yield b""
        yield initiation(receiver_key, seed)


def flood(place, address, receiver_key, until, rate=10000):
    """Sends garbage at a bounded rate until an event is set; returns how much."""
    seed = random.Random(2)
    # Made before, so that the flood is not slowed by the making of it.
    supply = garbage(receiver_key, seed)
    messages = [next(supply) for _ in range(4000)]
    sent, start = 0, time.monotonic()
    with place.open(6 if ":" in address[0] else 4) as out:
        while not until.is_set():
            for _ in range(50):
                try:
                    out.sendto(messages[sent % len(messages)], address)
                except OSError:
                    pass
                sent += 1
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
    return sent


def burst(place, address, until, size=1300):
    """Sends datagrams of zeros as fast as it can, 40 in one call, until an event is set."""
    with place.open(6 if ":" in address[0] else 4) as out:
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        train = bytes(40 * size)
        while not until.is_set():
            try:
                out.sendto(train, address)
            except OSError:
                pass


def drown(place, address):
    """A process that sends initiations without a right MAC as fast as it can, 64 in one call."""
    source = f"""
import socket
out = socket.socket(socket.{"AF_INET6" if ":" in address[0] else "AF_INET"}, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_UDP, {UDP_SEGMENT}, 148)
train = (bytes([1, 0, 0, 0]) + bytes(144)) * 64
while True:
    try:
        out.sendto(train, {address!r})
    except OSError:
        pass
"""
    return place.start(sys.executable, "-c", source, log=os.devnull)


class Capture:
    """Everything that a device sends and receives, as its driver sees it."""

    def __init__(self, place, device):
        with place:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self.socket.bind((device, 0))

    def end(self):
        """The packets so far, of which none may have been missed."""
        self.socket.setblocking(False)
        packets = []
        with self.socket:
            while True:
                try:
                    packets.append(self.socket.recv(65535))
                except BlockingIOError:
                    break
            _, dropped = struct.unpack("II", self.socket.getsockopt(263, 6, 8))
        expect(dropped == 0, f"{dropped} packets were not captured")
        return packets


def udp_ports(frame):
    """The two ports of an Ethernet frame with UDP in IP, else None."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == 17:
        at = 14 + (frame[14] & 15) * 4
    elif kind == b"\x86\xdd" and frame[20] == 17:
        at = 54
    else:
        return None
    return struct.unpack_from("!HH", frame, at)


def is_neighbour_talk(frame):
    """ARP, or ICMPv6 of the kinds that a link is kept alive with (never an echo)."""
    kind = frame[12:14]
    if kind == b"\x08\x06":
        return True
    if kind != b"\x86\xdd":
        return False
    at = 62 if frame[20] == 0 else 54
    return frame[at - 8 if frame[20] == 0 else 20] == 58 and 130 <= frame[at] <= 143 if len(frame) > at else False


def end_of(seconds):
    """An event that is set after some seconds."""
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    return event


def random_key():
    import base64
    return base64.b64encode(os.urandom(32)).decode()
