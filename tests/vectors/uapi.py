"""Asks wireguard-go what `uapi.txt` says: reads the file, and prints it with the answers of today.

    unshare --net --mount sh -c 'mkdir -p /run/wireguard && mount -t tmpfs none /run/wireguard &&
        exec python3 tests/vectors/uapi.py' < tests/vectors/uapi.txt

Needs root, for the namespaces and the device. Every test has a wireguard-go of its own; UDP port 51998
is taken. A port that the system chose is left out, as are the lines of a peer that are always the same.
"""
import os
import re
import socket
import subprocess
import sys
import time

DEVICE = "wguapi0"
SOCKET = f"/run/wireguard/{DEVICE}.sock"
SAME = ("tx_bytes=0", "rx_bytes=0", "last_handshake_time_sec=0", "last_handshake_time_nsec=0", "protocol_version=1")


def start():
    environment = dict(os.environ, LOG_LEVEL="silent", WG_PROCESS_FOREGROUND="1")
    process = subprocess.Popen(["wireguard-go", "--foreground", DEVICE], env=environment, stderr=subprocess.DEVNULL)
    for _ in range(500):
        try:
            talk(b"get=1\n\n")
            return process
        except OSError:
            time.sleep(0.01)
    sys.exit("wireguard-go has no socket")


def talk(request):
    """Sends all at once and ends sending; what comes back until the other side hangs up."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(SOCKET)
        client.settimeout(5)
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return answer


def lines_of(answer):
    """The lines of an answer to `get`, with the peers and their allowed IPs in order."""
    device, peers = [], []
    for line in answer.decode().removesuffix("errno=0\n\n").splitlines():
        if line.startswith("public_key="):
            peers.append([])
        (peers[-1] if peers else device).append(line)
    for peer in sorted(peers):
        ips = sorted(line for line in peer if line.startswith("allowed_ip="))
        device += [line for line in peer if line not in ips and line not in SAME] + ips
    return device


def unescape(text):
    return text.encode().decode("unicode_escape").encode("latin-1")


def escape(data):
    special = {10: r"\n", 13: r"\r", 92: r"\\"}
    return "".join(special.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data)


def run(test):
    before, send = (unescape(test.get(name, "")) for name in ("before", "send"))
    chosen = re.findall(rb"listen_port=0*(\d+)", before + send)
    is_hidden = lambda line: line.startswith("listen_port=") and line[12:].strip().encode() not in chosen
    process = start()
    try:
        if before:
            assert talk(before) == b"errno=0\n\n", test
        answer = talk(send).decode()
        state = lines_of(talk(b"get=1\n\n"))
    finally:
        process.terminate()
        process.wait()
    answer = "".join(line for line in answer.splitlines(True) if not is_hidden(line))
    print(f"\ntest={test['test']}")
    if before:
        print(f"before={escape(before)}")
    print(f"send={escape(send)}\nanswer={escape(answer.encode())}")
    for line in state:
        if not is_hidden(line):
            print(f"state={line}")


def main():
    taken = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    taken.bind(("::", 51998))
    for paragraph in sys.stdin.read().split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        for comment in (line for line in lines if line.startswith("#")):
            print(comment)
        test = dict(line.split("=", 1) for line in lines if not line.startswith(("#", "state=")))
        if test:
            run(test)


main()
