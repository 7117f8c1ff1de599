"""Applications of a control plane in namespaces, as `applications` and `figures` use them.

Every class starts one application from Debian's packages on one or more hosts, in the foreground, with all of its
files in a folder of its own; the lab ends it. Its real client writes and reads. It is a cluster where it has more than
one host. Nothing here knows whether there is a mesh: an address is what a host is told to listen on.
"""

import os
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "node" / "tests"))

from lab import Failure, Place, execute, wait_until  # noqa: E402


class Host(NamedTuple):
    """Where a server runs, and the address that it listens on."""

    place: Place
    address: str


class Service:
    """An application on its hosts. Clients run in any place."""

    # What must be installed: a program or a file, and the package that has it.
    NEEDS = {}

    def __init__(self, folder, hosts):
        self.folder = Path(folder)
        self.hosts = list(hosts)
        self.processes = []
        self.folder.mkdir(parents=True)

    @classmethod
    def missing(cls):
        """The packages that are not installed."""
        # What Debian has in sbin is not on everybody's path.
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        return sorted({package for needed, package in cls.NEEDS.items()
                       if not (Path(needed).exists() if "/" in needed else shutil.which(needed, path=path))})

    def run(self, host, *command, env=None):
        """Starts a server. Its log is one of the lab's, and is shown after a failure."""
        number = host.place.number
        log = host.place.lab.work / f"{type(self).__name__.lower()}-{number}.log"
        process = host.place.start(*command, log=log, env={**os.environ, "HOME": str(self.folder), **(env or {})})
        self.processes.append((f"{type(self).__name__} on host {number}", process))

    def client(self, place, *command, **options):
        """What a client prints."""
        return place.run("env", f"HOME={self.folder}", *command, **options).stdout

    def says(self, place, *command, **options):
        """What a client prints, or nothing where it fails: for a question to a server that may not be up."""
        done = place.run("env", f"HOME={self.folder}", *command, check=False, **options)
        return done.stdout if done.returncode == 0 else ""

    def start(self):
        """Starts all servers."""
        raise NotImplementedError

    def is_ready(self):
        """Whether it answers, and is the whole cluster that it should be."""
        raise NotImplementedError

    def wait(self, within=60):
        """Waits until it is ready, and returns the seconds."""

        def ready():
            for what, process in self.processes:
                if process.poll() is not None:
                    raise Failure(f"{what} has ended with {process.returncode}")
            # Every question is a process, so it is not asked as often as `wait_until` asks.
            return self.is_ready() or threading.Event().wait(0.2)

        return wait_until(ready, within, f"{type(self).__name__} did not get ready")


def listens(host, port):
    """Whether somebody accepts a connection on a host's address."""
    with host.place.open(kind=socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host.address, port)) == 0


class Redis(Service):
    """A server, and a replica on each further host, which is read from."""

    NEEDS = {"redis-server": "redis-server", "redis-cli": "redis-tools"}
    PORT = 6379

    def start(self):
        first = self.hosts[0]
        for host in self.hosts:
            folder = self.folder / str(host.place.number)
            folder.mkdir()
            more = [] if host is first else ["--replicaof", first.address, self.PORT]
            self.run(host, "redis-server", "--bind", host.address, "--port", self.PORT, "--protected-mode", "no",
                     "--dir", folder, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", 0, *more)

    def command(self, host, *words):
        return ["redis-cli", "-h", host.address, "-p", self.PORT, *words]

    def is_ready(self):
        said = [self.says(host.place, *self.command(host, "info", "replication")) for host in self.hosts]
        return "role:master" in said[0] and all("master_link_status:up" in words for words in said[1:])

    def write(self, place, marker):
        self.client(place, *self.command(self.hosts[0], "set", "marker", marker))

    def read(self, place):
        return self.client(place, *self.command(self.hosts[-1], "get", "marker"))


class MariaDB(Service):
    """A server, or a Galera cluster with a node on every host."""

    NEEDS = {
        "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server", "mariadb": "mariadb-client",
        "/usr/lib/galera/libgalera_smm.so": "galera-4", "rsync": "rsync", "lsof": "lsof",
    }
    PORT = 3306
    # As root, the rsync with which Galera hands over its data would write as nobody.
    ACCOUNT = "mysql"
    USER = DATABASE = "app"
    PASSWORD = "app-in-a-lab"

    def __init__(self, folder, hosts, options=()):
        super().__init__(folder, hosts)
        self.options = list(options)

    def start(self):
        cluster = len(self.hosts) > 1
        # The server gives up being root, and has to reach its files then.
        self.hosts[0].place.lab.work.chmod(0o711)
        self._make_data(self.folder / "1")
        for host in self.hosts:
            folder = self.folder / str(self.hosts.index(host) + 1)
            # The others get their data from the first, over the network.
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, self.ACCOUNT)
            self.run(
                host, "mariadbd", "--no-defaults", f"--user={self.ACCOUNT}", f"--datadir={folder}", f"--bind-address={host.address}",
                f"--port={self.PORT}", f"--socket={folder}/socket", f"--pid-file={folder}/pid", "--skip-name-resolve",
                "--innodb-log-file-size=8M", *(self._galera(host) if cluster else []), *self.options,
            )
            if cluster and host is self.hosts[0]:
                wait_until(lambda: listens(host, self.PORT), 30, "the first node of Galera did not start")

    def _make_data(self, folder):
        setup = self.folder / "setup.sql"
        setup.write_text(
            f"flush privileges;\ncreate database {self.DATABASE};\n"
            f"create user '{self.USER}'@'%' identified by '{self.PASSWORD}';\n"
            f"grant all on *.* to '{self.USER}'@'%';\n"
            f"create table {self.DATABASE}.markers (id int primary key auto_increment, marker varchar(80));\n"
        )
        execute("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
                f"--user={self.ACCOUNT}", f"--datadir={folder}", "--innodb-log-file-size=8M", f"--extra-file={setup}", timeout=60)

    def _galera(self, host):
        own, members = host.address, ",".join(other.address for other in self.hosts)
        provider = f"gmcast.listen_addr=tcp://{own}:4567;ist.recv_addr={own}:4568;gcache.size=16M;gcs.fc_limit=64"
        return [
            "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON", "--wsrep-cluster-name=lab",
            "--wsrep-provider=/usr/lib/galera/libgalera_smm.so", f"--wsrep-provider-options={provider}",
            f"--wsrep-cluster-address=gcomm://{members}", f"--wsrep-node-address={own}",
            f"--wsrep-node-name=host-{host.place.number}", "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address={own}:4444", *(["--wsrep-new-cluster"] if host is self.hosts[0] else []),
        ]

    def command(self, host, *words):
        """The client's words, also for a load generator to take its options from."""
        return ["mariadb", "--no-defaults", f"--host={host.address}", f"--port={self.PORT}", f"--user={self.USER}",
                f"--password={self.PASSWORD}", "--connect-timeout=5", "--batch", "--skip-column-names", *words]

    def query(self, place, host, sql):
        return self.client(place, *self.command(host, self.DATABASE, f"--execute={sql}"))

    def is_ready(self):
        if len(self.hosts) == 1:
            return "1" in self.says(self.hosts[0].place, *self.command(self.hosts[0], "--execute=select 1"))
        sql = ("select variable_value from information_schema.global_status "
               "where variable_name in ('wsrep_cluster_size', 'wsrep_local_state_comment') order by 1")
        return all(self.says(host.place, *self.command(host, f"--execute={sql}")).split() == [str(len(self.hosts)), "Synced"]
                   for host in self.hosts)

    def write(self, place, marker):
        self.query(place, self.hosts[0], f"insert into markers (marker) values ('{marker}')")

    def read(self, place):
        # The node that is asked may still have what the others have agreed on before it.
        return self.query(place, self.hosts[-1], "set session wsrep_sync_wait = 1; select marker from markers")
