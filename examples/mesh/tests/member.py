"""Nodes of the mesh in namespaces, and an etcd beside them, for `demo` and the scripts of this folder."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "node" / "tests"))

from lab import Failure, answers, execute, expect, unique, wait_until  # noqa: E402

CLUSTER = HERE.parent / "etcd" / "cluster"
LEAD = 3


def mesh_program():
    if "MESH" not in os.environ:
        built = execute(
            "cargo", "build", "--release", "--bin", "mesh", "--manifest-path", HERE.parent / "Cargo.toml",
            "--message-format", "json-render-diagnostics", timeout=1800,
        )
        lines = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
        os.environ["MESH"] = [line["executable"] for line in lines if line.get("executable")][-1]
    program = shutil.which(os.environ["MESH"])
    expect(program, f"there is no program {os.environ['MESH']}")
    return str(Path(program).absolute())


class Member:
    """A node of the mesh in a place of its own."""

    def __init__(self, place, directory, lead=LEAD, more=()):
        self.place = place
        self.name = f"node-{place.number}"
        self.inner = f"10.88.0.{place.number}"
        self.device = unique("m")
        self.state = place.lab.work / self.name
        self.log = place.lab.work / f"{self.name}.log"
        self.directory = directory.format(name=self.name)
        self.lead = lead
        self.more = list(more)
        self.endpoint = place.outer()
        self.environment = {}
        self.probe = ["--probe", "1s"]
        self.process = None

    def start(self):
        self.process = self.place.start(
            mesh_program(), "run", "--name", self.name, "--address", f"{self.inner}/24",
            "--network", "10.88.0.0/16", "--endpoint", self.endpoint, "--directory", self.directory,
            "--state", self.state, "--interface", self.device, "--rotate-lead", f"{self.lead}s",
            *self.probe, *self.more, log=self.log,
            env={**os.environ, "LOG_LEVEL": os.environ.get("LOG_LEVEL", "info"), **self.environment},
        )

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, *words):
        return self.place.run(mesh_program(), *words, "--state", self.state).stdout

    def status(self):
        return json.loads(self.call("status", "--json"))

    def peer(self, other):
        """What it says of another node, or None."""
        return next((peer for peer in self.status()["peers"] if peer["name"] == other.name), None)

    def answers(self):
        """Whether it runs so far that it can be asked."""
        return answers(self.state / "control.sock")

    def knows(self, others):
        """Whether it has a session with all others."""
        if self.process.poll() is not None:
            raise Failure(f"{self.name} has ended with {self.process.returncode}")
        if not self.answers():
            return False
        up = {peer["name"] for peer in self.status()["peers"] if peer["is_up"]}
        return up >= {other.name for other in others if other is not self}


def everybody_up(members):
    return all(member.knows(members) for member in members)


def start_mesh(lab, places, line=None, lead=LEAD):
    """A mesh of a node in each place; `line` says the directory of a name, a folder of the lab by default."""
    members = [Member(place, line(f"node-{place.number}") if line else f"folder:{lab.work / 'directory'}", lead)
               for place in places]
    for member in members:
        member.start()
    wait_until(lambda: everybody_up(members), 30, "the mesh did not come up")
    return members


def start_etcd(lab, places):
    """A real etcd with a member in each of three places; gives what says the directory of a name."""
    at = [word for place in places for word in ("--at", f"{place.name}={place.outer()}")]
    execute(CLUSTER, "start", lab.work / "etcd", *at, timeout=120)
    return lambda name: execute(CLUSTER, "add-node", lab.work / "etcd", name).stdout.strip()
