"""A name that is stolen: what etcd lets a thief do, what the mesh says, and what reaches the thief."""

import json

from fault_checks import Etcd, Steady, check, said
from lab import PORT, execute, expect, public_key, wait_until
from member import Member, everybody_up
from traffic import Capture, expect_silence, udp_ports

KEY = "/quietwire/mesh/nodes/node-1"


def authority(lab):
    """A certificate for the victim's name, by somebody else's authority."""
    files = lab.work / "other.pem", lab.work / "other.key"
    execute("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", 9,
            "-subj", "/CN=node-1", "-out", files[0], "-keyout", files[1])
    return files


def ctl(etcd, place, cert, key, *words):
    """`etcdctl` as anybody."""
    own = ["--cert", cert, "--key", key] if cert else []
    return place.run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", f"https://{etcd.places[0].outer()}:2379",
                     "--dial-timeout", "2s", "--command-timeout", "3s", "--cacert", etcd.folder / "ca.pem", *own,
                     *words, check=False)


def expect_harmless(lab, etcd, thief, honest, record):
    """Nobody believes the thief, and nothing is sent to it."""
    one, two, _ = honest
    expect(etcd.record("node-1") == record, "the record was replaced")
    expect(two.peer(one)["key"] == record["key"] and not two.status()["refusals"], "the thief was noticed by others")
    expect_silence(thief.place, two.inner)
    expect(not any(peer["is_up"] for peer in thief.status()["peers"]), "the thief has a session")


@check
def a_stolen_name_with_wrong_certificates(lab):
    places = lab.add_places(7)
    etcd = Etcd(lab, places[4:])
    honest = [Member(place, etcd.node(f"node-{place.number}")) for place in places[:3]]
    for member in honest:
        member.start()
    wait_until(lambda: everybody_up(honest), 30, "the mesh did not come up")
    record = etcd.record("node-1")
    steady = Steady((honest[0], honest[1]), (honest[0], honest[2]))
    line = etcd.node("node-4")
    own = [etcd.folder / "nodes" / "node-4" / file for file in ("node.pem", "node.key")]
    other = authority(lab)
    cable = Capture(places[3], "cable")
    thefts = {
        "a certificate for another name": (own, "permission denied"),
        "a certificate of another authority": (other, "it does not accept our certificate"),
    }
    for number, (name, (files, reason)) in enumerate(thefts.items()):
        thief = Member(places[3], line.replace(str(own[0]), str(files[0])).replace(str(own[1]), str(files[1])))
        thief.name, thief.state = "node-1", lab.work / f"thief-{number}"
        thief.log = lab.work / f"thief-{number}.log"
        thief.start()
        wait_until(lambda: said(thief, reason), 30, f"it does not say that {name} is wrong")
        wait_until(thief.answers, 10, "it does not answer")
        wait_until(lambda: reason in thief.call("status"), 10, "its status does not say so")
        expect_harmless(lab, etcd, thief, honest, record)
        thief.kill()
        stolen = json.dumps(record | {"key": public_key(execute("wg", "genkey").stdout), "generation": 9})
        for words in (("put", KEY, stolen), ("del", KEY)):
            done = ctl(etcd, places[3], *files, *words)
            expect(done.returncode != 0, f"`etcdctl {words[0]}` worked with {name}")
            expect("permission denied" in done.stderr or number, f"etcdctl: {done.stderr}")
        lab.note(f"{name}: refused")
    missing = Member(places[3], line.replace(str(own[0]), str(lab.work / "none.pem")))
    missing.name, missing.state = "node-1", lab.work / "thief-none"
    missing.log = lab.work / "thief-none.log"
    missing.start()
    expect(missing.process.wait(10) != 0 and said(missing, "none.pem cannot be read"), "it runs without a certificate")
    expect(ctl(etcd, places[3], None, None, "put", KEY, "{}").returncode != 0, "etcd listens without a certificate")
    lab.note("none: refused")
    frames = cable.end()
    sent = [frame for frame in frames if (udp_ports(frame) or (0, 0))[0] == PORT]
    answers = [frame for frame in sent if frame[26:30] != bytes(map(int, places[3].outer().split(".")))]
    expect(sent, "the thief tried nothing, so this shows nothing")
    expect(not answers, f"{len(answers)} datagrams of the mesh went to the thief")
    expect(etcd.record("node-1") == record, "the record was replaced")
    steady.end()
    expect(steady.lost == 0, str(steady))
    lab.note(f"{len(sent)} handshakes of the thief and no answer, {steady}")
