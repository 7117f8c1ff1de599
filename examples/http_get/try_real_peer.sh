#!/bin/bash
# Downloads through another implementation of WireGuard: the kernel's, or wireguard-go, or
# boringtun-cli, whichever this machine has first (or PEER=kernel|wireguard-go|boringtun-cli).
#
# Two network namespaces are joined by a cable of which both ends are virtual. In one of them is the
# peer, with a web server and a name server behind it; in the other one is http_get, which has no
# network device of its own. Nothing outside of the two is changed, and nothing is left behind.
#
# With LONG=1 there is also a download that takes longer than a session lives.
#
# Needs root, /dev/net/tun, ip (iproute2), wg (wireguard-tools) and python3. Exits with 77 where it
# cannot run.
set -euo pipefail

cd "$(dirname "$0")/../.."
id=$$
client=qw-client-$id
peer=qw-peer-$id
device=wgqw$id
work=
pids=()

skip() {
    echo "skipped: $*"
    exit 77
}

cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    ip netns del "$client" 2>/dev/null || true
    ip netns del "$peer" 2>/dev/null || true
    if [ -n "$work" ]; then rm -rf "$work"; fi
}

for tool in ip wg python3 cargo; do
    command -v "$tool" >/dev/null || skip "there is no $tool"
done
[ "$(id -u)" = 0 ] || skip "making network namespaces needs root"
trap cleanup EXIT
ip netns add "$peer" 2>/dev/null || skip "network namespaces cannot be made here"
ip netns add "$client"
work=$(mktemp -d)
in_peer() { ip netns exec "$peer" "$@"; }
in_client() { ip netns exec "$client" "$@"; }
in_background() {
    # Not through a function: the process that is ended later has to be the command itself.
    ip netns exec "$peer" "${@:2}" >"$1" 2>&1 &
    pids+=($!)
}

# The cable. Every namespace sees the same files, so only the names of namespaces must be unique.
ip -n "$peer" link add cable type veth peer name cable netns "$client" ||
    skip "virtual cables cannot be made here"
ip -n "$client" addr add 192.0.2.1/24 dev cable
ip -n "$client" addr add 2001:db8::1/64 dev cable nodad
ip -n "$peer" addr add 192.0.2.2/24 dev cable
ip -n "$peer" addr add 2001:db8::2/64 dev cable nodad
for side in "$client" "$peer"; do
    ip -n "$side" link set lo up
    ip -n "$side" link set cable up
done

# The peer.
start_peer() {
    case $1 in
    kernel) ip -n "$peer" link add "$device" type wireguard 2>/dev/null ;;
    wireguard-go | boringtun-cli)
        command -v "$1" >/dev/null && [ -c /dev/net/tun ] || return 1
        in_background "$work/peer.log" "$1" --foreground "$device"
        for _ in $(seq 50); do
            in_peer wg show "$device" >/dev/null 2>&1 && return
            sleep 0.1
        done
        return 1
        ;;
    esac
}
started=
for kind in ${PEER:-kernel wireguard-go boringtun-cli}; do
    if start_peer "$kind"; then
        started=$kind
        break
    fi
done
[ -n "$started" ] || skip "no peer: ${PEER:-kernel, wireguard-go and boringtun-cli} cannot be started"

(umask 077; wg genkey >"$work/client.key"; wg genkey >"$work/peer.key"; wg genpsk >"$work/psk")
in_peer wg set "$device" listen-port 51820 private-key "$work/peer.key" \
    peer "$(wg pubkey <"$work/client.key")" preshared-key "$work/psk" \
    allowed-ips 10.88.0.2/32,fd88::2/128
ip -n "$peer" addr add 10.88.0.1/24 dev "$device"
ip -n "$peer" addr add fd88::1/64 dev "$device" nodad
ip -n "$peer" link set "$device" mtu 1420 up

# What is behind the peer: a name server that knows one name, and a web server.
cat >"$work/behind.py" <<'PYTHON'
import http.server, socket, socketserver, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = open(sys.argv[1], "rb").read()
        kinds = {"/length": self.length, "/chunked": self.chunked, "/close": self.until_close,
                 "/slow": self.slow}
        if self.path not in kinds:
            return self.send_error(404)
        self.send_response(200)
        kinds[self.path](body)
        self.close_connection = True

    def length(self, body):
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, body):
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 54321):
            chunk = body[start:start + 54321]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def until_close(self, body):
        self.end_headers()
        self.wfile.write(body)

    def slow(self, body):
        self.send_header("Content-Length", "200000")
        self.end_headers()
        for second in range(200):
            time.sleep(1)
            self.wfile.write(body[1000 * second:1000 * (second + 1)])

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

class Names(socketserver.BaseRequestHandler):
    def handle(self):
        query, reply = self.request
        question = query[12:query.index(b"\0", 12) + 5]
        known = question == b"\x03web\x04test\0\0\x01\0\x01"
        answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton("10.88.0.1")
        header = query[:2] + (b"\x81\x80" if known else b"\x81\x83")
        header += b"\0\x01\0" + bytes([known]) + b"\0\0\0\0"
        reply.sendto(header + question + answer * known, self.client_address)

names = socketserver.UDPServer(("10.88.0.1", 53), Names)
threading.Thread(target=names.serve_forever, daemon=True).start()
Server(("::", 8000), Handler).serve_forever()
PYTHON
head -c 50000000 /dev/urandom >"$work/file"
in_background "$work/behind.log" python3 "$work/behind.py" "$work/file"

# What an operator writes. Two endpoints: the same tunnel over IPv4 and over IPv6.
write_config() {
    (umask 077; cat >"$work/$1" <<CONFIG
[Interface]
# a laptop
PrivateKey = $(cat "$work/client.key")
Address = 10.88.0.2/24, fd88::2/64
DNS = 10.88.0.1
MTU = 1420

[Peer]
PublicKey = $(wg pubkey <"$work/peer.key")
PresharedKey = $(cat "$work/psk")
AllowedIPs = 10.88.0.0/24, fd88::/64
Endpoint = $2
PersistentKeepalive = 25
CONFIG
    )
}
write_config wg4.conf 192.0.2.2:51820
write_config wg6.conf '[2001:db8::2]:51820'

cargo build --quiet --release --example http_get
http_get=${CARGO_TARGET_DIR:-target}/release/examples/http_get

for _ in $(seq 50); do
    in_peer python3 -c 'import socket; socket.create_connection(("10.88.0.1", 8000))' 2>/dev/null &&
        break
    sleep 0.1
done

passed=0
failed=0
verdict() {
    if [ "$1" = "$2" ]; then
        passed=$((passed + 1))
        echo "ok: $3"
    else
        failed=$((failed + 1))
        echo "FAILED: $3: $1 instead of $2"
        sed 's/^/  /' "$work/log"
    fi
}

expected=$(sha256sum <"$work/file")
fetch() {
    local status=0
    in_client "$http_get" --config "$work/$1" -o "$work/body" --pcap "$work/pcap" "$2" 2>"$work/log" || status=$?
    return $status
}
expect_file() {
    rm -f "$work/body"
    fetch "$@" || true
    verdict "$(sha256sum <"$work/body" 2>/dev/null)" "$expected" "$* ($(tail -1 "$work/log"))"
}
# Whether Wireshark takes every datagram of the last capture for WireGuard, with a right checksum.
expect_capture() {
    command -v tshark >/dev/null || return 0
    count() { tshark -o udp.check_checksum:TRUE -r "$work/pcap" -Y "$1" 2>"$work/log" | wc -l; }
    verdict "$(count 'wg and udp.checksum.status == "Good"')" "$(count frame)" "the capture in Wireshark"
}
expect_status() {
    local wanted=$1 status=0
    shift
    fetch "$@" || status=$?
    verdict "$status" "$wanted" "$* ($(tail -1 "$work/log"))"
}

echo "the peer is $started"
expect_file wg4.conf http://10.88.0.1:8000/length
expect_file wg4.conf http://10.88.0.1:8000/chunked
expect_file wg4.conf http://10.88.0.1:8000/close
expect_capture
expect_file wg4.conf http://web.test:8000/length
expect_file wg4.conf 'http://[fd88::1]:8000/length'
expect_file wg6.conf http://10.88.0.1:8000/length
expect_capture
expect_file wg6.conf 'http://[fd88::1]:8000/chunked'
expect_status 3 wg4.conf http://10.88.0.1:8000/missing
expect_status 1 wg4.conf http://10.88.0.1:8001/
expect_status 1 wg4.conf http://nobody.test/
expect_status 1 wg4.conf http://10.99.0.1/
if [ "${LONG:-0}" = 1 ]; then
    expected=$(head -c 200000 "$work/file" | sha256sum)
    expect_file wg4.conf http://10.88.0.1:8000/slow
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
