"""Network namespaces with WireGuard nodes in them, and everything gone afterwards.

A `Lab` belongs to one check. It makes places (namespaces, joined by virtual cables) and tunnels (one
program, one device each), and its `close` ends every process and removes every namespace, device and
file, whatever has happened before. Every name has the process id in it, so that runs do not disturb
each other. What travels through the tunnels is made in `traffic`.

The program under test is `NODE`; without it `cargo` builds the node next to this folder. The other
implementations are found on `PATH`, or by `WIREGUARD_GO`, `BORINGTUN` and `GOTATUN`.
"""

import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

SOCKETS = Path("/var/run/wireguard")
PORT = 51820
MTU = 1420
SO_RCVBUFFORCE, ROOM = 33, 8 << 20
PROGRAMS = {
    "wireguard-go": ("WIREGUARD_GO", ["{program}", "-f", "{device}"]),
    "boringtun-cli": ("BORINGTUN", ["{program}", "--disable-drop-privileges", "-f", "{device}"]),
    "gotatun": ("GOTATUN", ["{program}", "--disable-drop-privileges", "-f", "{device}"]),
}

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_labs = []
_closed = threading.Event()


class Failure(Exception):
    """A check does not hold."""


class Skip(Exception):
    """A check cannot be made on this machine."""


def expect(holds, message):
    if not holds:
        raise Failure(message)


def unique(letter):
    """A name for a namespace or a device: at most 15 characters, used by nobody else."""
    return f"qw{os.getpid()}{letter}{next(_numbers)}"


def execute(*command, given=None, check=True, timeout=30):
    """Runs a command to its end and returns it as `subprocess.run` does, with text."""
    command = [str(word) for word in command]
    # Files, because a pipe would be waited for as long as a process in the background holds it.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(command, input=given or "", text=True, timeout=timeout, stdout=output, stderr=errors)
        output.seek(0)
        errors.seek(0)
        done.stdout, done.stderr = output.read(), errors.read()
    if check and done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise Failure(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done


def node_program():
    """The program under test, built if the environment does not name one."""
    if "NODE" not in os.environ:
        manifest = Path(__file__).resolve().parent.parent / "Cargo.toml"
        built = execute(
            "cargo", "build", "--release", "--bin", "node", "--manifest-path", manifest,
            "--message-format", "json-render-diagnostics", timeout=1800,
        )
        lines = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
        os.environ["NODE"] = [line["executable"] for line in lines if line.get("executable")][-1]
    program = shutil.which(os.environ["NODE"])
    expect(program, f"there is no program {os.environ['NODE']}")
    return str(Path(program).absolute())


def program_of(kind):
    """The path of an implementation; skips where it is not installed."""
    if kind == "node":
        return node_program()
    variable, _ = PROGRAMS[kind]
    program = shutil.which(os.environ.get(variable, kind))
    if program is None:
        raise Skip(f"there is no {kind} on PATH, and {variable} does not name one")
    return program


def command_of(kind, device):
    """How an implementation is started in the foreground."""
    pattern = ["{program}", "-f", "{device}"] if kind == "node" else PROGRAMS[kind][1]
    program = program_of(kind)
    return [word.format(program=program, device=device) for word in pattern]


def wait_until(holds, within, message):
    """Waits for `holds()`, which is asked every 10 ms, and returns the seconds that it took."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > within:
            raise Failure(f"{message} within {within} s")
        time.sleep(0.01)
    return time.monotonic() - start


class Place:
    """A network namespace. As a context it is where the calling thread makes its sockets."""

    def __init__(self, lab, number):
        self.lab = lab
        self.number = number
        self.name = unique("n")
        self._before = threading.local()
        execute("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def __enter__(self):
        self._before.handle = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        handle = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        self._enter(handle)
        return self

    def __exit__(self, *_):
        self._enter(self._before.handle)

    @staticmethod
    def _enter(handle):
        failed = _libc.setns(handle, 0x40000000)
        error = ctypes.get_errno()
        os.close(handle)
        if failed:
            raise OSError(error, os.strerror(error))

    def outer(self, family=4):
        return f"192.0.2.{self.number}" if family == 4 else f"2001:db8::{self.number:x}"

    def ip(self, *words, check=True):
        return execute("ip", "-n", self.name, *words, check=check)

    def run(self, *command, **options):
        return execute("ip", "netns", "exec", self.name, *command, **options)

    def start(self, *command, log, **options):
        """A process in this place that writes to `log`; it is ended with the lab."""
        return self.lab.start("ip", "netns", "exec", self.name, *command, log=log, **options)

    def open(self, family=4, kind=socket.SOCK_DGRAM, protocol=0):
        with self:
            return socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)

    def listening(self, address, kind=socket.SOCK_DGRAM, port=0):
        """A socket bound to `address`, with its port."""
        made = self.open(6 if ":" in address else 4, kind)
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        return made, made.getsockname()[1]

    def nft(self, rules):
        """Adds rules to the table `lab` of this namespace. Counters are read with `count`."""
        if shutil.which("nft") is None:
            raise Skip("there is no nft")
        self.run("nft", "-f", "-", given=f"table inet lab {{\n{rules}\n}}\n")

    def watch(self, hook, **counters):
        """Counts packets by conditions in nft's language, each under its name."""
        named = "".join(f"counter {name} {{ }}\n" for name in counters)
        rules = "".join(f"{rule} counter name {name}\n" for name, rule in counters.items())
        chain = f"chain watch_{hook}_{next(_numbers)}"
        self.nft(f"{named}{chain} {{ type filter hook {hook} priority 0;\n{rules} }}")

    def count(self, name):
        """The packets that a counter has seen."""
        said = self.run("nft", "list", "counter", "inet", "lab", name).stdout
        return int(re.search(r"packets (\d+)", said)[1])

    def forget(self):
        """Removes all rules and counters."""
        self.run("nft", "delete", "table", "inet", "lab", check=False)

    def has_device(self, device):
        return self.ip("link", "show", "dev", device, check=False).returncode == 0

    def processes(self):
        said = execute("ip", "netns", "pids", self.name, check=False).stdout
        return [int(line) for line in said.split()]


class Tunnel:
    """A WireGuard device in a place, and the process behind it."""

    def __init__(self, place, kind="node", port=PORT, net=77):
        self.place = place
        self.kind = kind
        self.port = port
        self.net = net
        self.device = unique("d")
        self.log = place.lab.work / f"{self.device}-{kind}.log"
        self.private = execute("wg", "genkey").stdout.strip()
        self.public = public_key(self.private)
        self.process = None
        self.expected_to_run = False

    @property
    def socket_file(self):
        return SOCKETS / f"{self.device}.sock"

    @property
    def pid(self):
        return self.process.pid

    def inner(self, family=4):
        number = self.place.number
        return f"10.{self.net}.0.{number}" if family == 4 else f"fd{self.net}::{number:x}"

    def start(self, log_level=None):
        """Starts the program in the foreground and waits until it can be configured."""
        log_level = log_level or os.environ.get("LOG_LEVEL", "info")
        environment = {"LOG_LEVEL": log_level, "WG_PROCESS_FOREGROUND": "1"}
        command = command_of(self.kind, self.device)
        self.process = self.place.start(*command, log=self.log, env={**os.environ, **environment})
        self.expected_to_run = True
        wait_until(self.ready, 10, f"the {self.kind} did not get ready")
        return self

    def ready(self):
        if self.process is not None and self.process.poll() is not None:
            raise Failure(f"the {self.kind} ended at its start with {self.process.returncode}")
        return answers(self.socket_file) and self.place.has_device(self.device)

    def set_up(self, mtu=MTU, port=None):
        """Gives the device its key, its port, its addresses, and takes it up."""
        self.port = port or self.port
        self.wg("set", "listen-port", self.port, "private-key", "/dev/stdin", given=self.private)
        self.take_up(mtu)
        return self

    def take_up(self, mtu=MTU):
        self.place.ip("addr", "add", f"{self.inner(4)}/24", "dev", self.device)
        self.place.ip("addr", "add", f"{self.inner(6)}/64", "dev", self.device, "nodad")
        self.place.ip("link", "set", self.device, "mtu", mtu, "up")

    def wg(self, verb, *words, **options):
        """`wg VERB DEVICE WORDS...`"""
        return self.place.run("wg", verb, self.device, *words, **options)

    def show(self, what):
        """What `wg show` says of every peer, by public key."""
        lines = self.wg("show", what).stdout.splitlines()
        return {key: value for key, _, value in (line.partition("\t") for line in lines)}

    def peer(self, other, *words, endpoint=4, psk=None, allowed=None):
        """Adds or changes a peer. `endpoint` is the outer family, or 0 for none."""
        if allowed is None:
            allowed = f"{other.inner(4)}/32,{other.inner(6)}/128"
        more = []
        if endpoint:
            host = other.place.outer(endpoint)
            more = ["endpoint", f"[{host}]:{other.port}" if endpoint == 6 else f"{host}:{other.port}"]
        if psk:
            more += ["preshared-key", "/dev/stdin"]
        self.wg("set", "peer", other.public, "allowed-ips", allowed, *more, *words, given=psk)

    def forget(self, other):
        self.wg("set", "peer", other.public, "remove")

    def handshake(self, other):
        """The time of the latest handshake in seconds of the epoch, 0 for none."""
        return int(self.show("latest-handshakes")[other.public])

    def transfer(self, other):
        """The bytes received from and sent to a peer."""
        received, sent = self.show("transfer")[other.public].split("\t")
        return int(received), int(sent)

    def end(self, how=signal.SIGTERM, within=5):
        """Ends the process, waits for it, and returns its exit status."""
        self.expected_to_run = False
        self.process.send_signal(how)
        return self.ended(within)

    def ended(self, within=5):
        """Waits for the process to end by itself, and returns its exit status."""
        self.expected_to_run = False
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failure(f"the {self.kind} still runs after {within} s") from None

    def expect_gone(self):
        """Nothing of it is left: no process, no device, no socket."""
        expect(self.process is None or self.process.poll() is not None, "the process still runs")
        wait_until(lambda: not self.place.has_device(self.device), 1, "the device did not go away")
        expect(not self.socket_file.exists(), f"{self.socket_file} is left behind")


class Lab:
    """The namespaces, processes and files of one check."""

    def __init__(self):
        expect(not _closed.is_set(), "the run is over")
        self.work = Path(tempfile.mkdtemp(prefix="qw-"))
        self.places = []
        self.tunnels = []
        self.processes = []
        self.notes = []
        _labs.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def note(self, text):
        """A figure for the line of this check."""
        self.notes.append(text)

    def add_places(self, number, whole=False):
        """Namespaces in one network: two on one cable, more on a switch of their own.

        What is counted and captured on the cables are datagrams; with `whole` also what the system
        would rather send in one piece, and has the receiver cut, as fast cables do.
        """
        made = []
        for _ in range(number):
            expect(not _closed.is_set(), "the run is over")
            self.places.append(Place(self, len(self.places) + 1))
            made.append(self.places[-1])
        if number == 2:
            made[0].ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", made[1].name)
        else:
            switch = Place(self, 0)
            self.places.append(switch)
            switch.ip("link", "add", "switch", "up", "type", "bridge", "mcast_snooping", 0)
            for place in made:
                port = f"port{place.number}"
                switch.ip("link", "add", port, "type", "veth", "peer", "name", "cable", "netns", place.name)
                switch.ip("link", "set", port, "master", "switch", "up", "gso_max_segs", 1)
        for place in made:
            if not whole:
                place.ip("link", "set", "cable", "gso_max_segs", 1)
            place.ip("addr", "add", f"{place.outer(4)}/24", "dev", "cable")
            place.ip("addr", "add", f"{place.outer(6)}/64", "dev", "cable", "nodad")
            place.ip("link", "set", "cable", "up")
        return made

    def tunnel(self, place, kind="node", port=PORT, net=77):
        self.tunnels.append(Tunnel(place, kind, port, net))
        return self.tunnels[-1]

    def pair(self, kinds=("node", "node"), outer=4, psk=None, mtu=MTU):
        """Two places with a tunnel each, which know each other with their endpoints."""
        for kind in kinds:
            program_of(kind)
        one, other = (self.tunnel(place, kind).start().set_up(mtu)
                      for place, kind in zip(self.add_places(2), kinds))
        one.peer(other, endpoint=outer, psk=psk)
        other.peer(one, endpoint=outer, psk=psk)
        return one, other

    def star(self, leaves):
        """A hub with a tunnel, and leaves with one each; the hub knows no endpoints."""
        hub, *others = (self.tunnel(place).start().set_up() for place in self.add_places(leaves + 1))
        for other in others:
            hub.peer(other, endpoint=0)
            other.peer(hub, allowed="10.77.0.0/24,fd77::/64")
        return hub, others

    def start(self, *command, log, **options):
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, **options,
            )
        self.processes.append(process)
        return process

    def expect_alive(self):
        for tunnel in self.tunnels:
            if tunnel.expected_to_run:
                status = tunnel.process.poll()
                expect(status is None, f"the {tunnel.kind} has ended with {status}")

    def logs(self, lines=25):
        """The last lines of every log, for a failure."""
        for path in sorted(self.work.glob("*.log")):
            text = path.read_text(errors="replace").splitlines()
            yield f"--- {path.name}, {len(text)} lines"
            yield from text[-lines:]

    def close(self):
        """Ends and removes everything. Never raises for what is already gone."""
        if self not in _labs:
            return
        _labs.remove(self)
        found = {pid for place in self.places for pid in place.processes()}
        # Threads of this process may be inside of a namespace; it must not end itself.
        for pid in found - {os.getpid()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for place in self.places:
            execute("ip", "netns", "del", place.name, check=False)
        for tunnel in self.tunnels:
            tunnel.socket_file.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)


def close_all():
    """Ends every lab, also those of other threads; no new one can be made."""
    _closed.set()
    while _labs:
        _labs[-1].close()


def answers(path):
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def public_key(private):
    return execute("wg", "pubkey", given=private).stdout.strip()


def preshared_key():
    return execute("wg", "genpsk").stdout.strip()


class Usage:
    """What a process has used so far, all of its threads together."""

    def __init__(self, pid):
        ticks = os.sysconf("SC_CLK_TCK")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.user = int(fields[11]) / ticks
        self.system = int(fields[12]) / ticks
        self.threads = int(fields[17])
        status = Path(f"/proc/{pid}/status").read_text()
        self.rss_kib = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.switches = 0
        for thread in Path(f"/proc/{pid}/task").iterdir():
            text = (thread / "status").read_text()
            self.switches += sum(map(int, re.findall(r"voluntary_ctxt_switches:\s+(\d+)", text)))


def missing(*tools):
    """Why nothing can be checked on this machine, or None."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    for tool in ("ip", "wg", *tools):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    probe = unique("n")
    if execute("ip", "netns", "add", probe, check=False).returncode != 0:
        return "network namespaces cannot be made here"
    cable = execute("ip", "-n", probe, "link", "add", "one", "type", "veth", "peer", "name", "other", check=False)
    execute("ip", "netns", "del", probe)
    return "virtual cables cannot be made here" if cable.returncode != 0 else None


def on_signals():
    """Makes an ended run an interrupted one, so that it cleans up."""
    def interrupt(number, _frame):
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
