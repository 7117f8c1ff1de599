"""Applications of a control plane in namespaces, as `applications` and `figures` use them.

Every class starts one application from Debian's packages on one or more hosts, in the foreground, with all of its
files in a folder of its own; the lab ends it. Its real client writes and reads. It is a cluster where it has more than
one host. Nothing here knows whether there is a mesh: an address is what a host is told to listen on.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import threading
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "node" / "tests"))

from lab import Failure, Place, expect, wait_until  # noqa: E402


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
        self.lock = threading.Lock()
        self.is_over = False
        self.folder.mkdir(parents=True)

    @property
    def other(self):
        """The host that is read from: another one than is written to, where there are more."""
        return self.hosts[min(1, len(self.hosts) - 1)]

    def own_folder(self, host):
        """A folder for what a host stores."""
        made = self.folder / str(host.place.number)
        made.mkdir(exist_ok=True)
        return made

    @classmethod
    def missing(cls):
        """The packages that are not installed."""
        return sorted({package for needed, package in cls.NEEDS.items()
                       if not (Path(needed).exists() if "/" in needed else shutil.which(needed))})

    def run(self, host, *command, env=None):
        """Starts a server. Its log is one of the lab's, and is shown after a failure."""
        env = {**os.environ, "HOME": str(self.folder), **(env or {})}
        with self.lock:
            expect(not self.is_over, "it is over")
            process = host.place.start(*command, log=self.log(host), env=env)
        self.processes.append((f"{type(self).__name__} on host {host.place.number}", process))

    def give_up(self):
        """Starts no more servers. Before the lab is closed, if `start` may still run in another thread."""
        with self.lock:
            self.is_over = True

    def log(self, host):
        return host.place.lab.work / f"{type(self).__name__.lower()}-{host.place.number}.log"

    def said(self, lines=40):
        """The ends of its logs, for a failure."""
        for path in dict.fromkeys(map(self.log, self.hosts)):
            text = path.read_text(errors="replace").splitlines() if path.exists() else []
            yield f"--- {path.name}, {len(text)} lines"
            yield from text[-lines:]

    def client(self, place, *command, **options):
        """What a client prints."""
        return place.run("env", f"HOME={self.folder}", *command, **options).stdout

    def says(self, place, *command, **options):
        """What a client prints, or nothing where it fails: for a question to a server that may not be up."""
        done = place.run("env", f"HOME={self.folder}", *command, check=False, **options)
        return done.stdout if done.returncode == 0 else ""

    def answer(self, ask, within=15):
        """The first thing that a question is answered with: what is written at one host is later at another."""
        found = []

        def told():
            found[:] = [ask()]
            return found[0] or threading.Event().wait(0.05)

        wait_until(told, within, f"{type(self).__name__} has not got what was written")
        return found[0]

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
            more = [] if host is first else ["--replicaof", first.address, self.PORT]
            self.run(host, "redis-server", "--bind", host.address, "--port", self.PORT, "--protected-mode", "no",
                     "--dir", self.own_folder(host), "--save", "", "--appendonly", "no",
                     "--repl-diskless-sync-delay", 0, *more)

    def command(self, host, *words):
        return ["redis-cli", "-h", host.address, "-p", self.PORT, *words]

    def is_ready(self):
        said = [self.says(host.place, *self.command(host, "info", "replication")) for host in self.hosts]
        return "role:master" in said[0] and all("master_link_status:up" in words for words in said[1:])

    def write(self, place, marker):
        self.client(place, *self.command(self.hosts[0], "set", "marker", marker))

    def read(self, place):
        return self.answer(lambda: self.says(place, *self.command(self.other, "get", "marker")).strip())


class MariaDB(Service):
    """A server, or a Galera cluster with a node on every host."""

    NEEDS = {
        "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server", "mariadb": "mariadb-client",
        "/usr/lib/galera/libgalera_smm.so": "galera-4", "rsync": "rsync",
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
        # The others get their data from the first, over the network.
        self._make_data(self.hosts[0])
        for host in self.hosts:
            folder = self.own_folder(host)
            shutil.chown(folder, self.ACCOUNT)
            self.run(
                host, "mariadbd", "--no-defaults", f"--user={self.ACCOUNT}", f"--datadir={folder}",
                f"--bind-address={host.address}", f"--port={self.PORT}", f"--socket={folder}/socket",
                f"--pid-file={folder}/pid", f"--tmpdir={self._tmp(host)}", "--skip-name-resolve",
                "--innodb-log-file-size=8M", *(self._galera(host) if cluster else []), *self.options,
            )
            if cluster and host is self.hosts[0]:
                wait_until(lambda: listens(host, self.PORT), 30, "the first node of Galera did not start")

    def _make_data(self, host):
        setup = self.folder / "setup.sql"
        setup.write_text(
            f"flush privileges;\ncreate database {self.DATABASE};\n"
            f"create user '{self.USER}'@'%' identified by '{self.PASSWORD}';\n"
            f"grant all on *.* to '{self.USER}'@'%';\n"
            f"create table {self.DATABASE}.markers (id int primary key auto_increment, marker varchar(80));\n"
        )
        # It is a server too, so it runs where the lab ends it.
        self.client(
            host.place, "mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal",
            f"--user={self.ACCOUNT}", f"--datadir={self.own_folder(host)}", "--innodb-log-file-size=8M",
            f"--tmpdir={self._tmp(host)}", f"--extra-file={setup}", "--skip-test-db", timeout=60,
        )

    def _tmp(self, host):
        """For temporary tables: a server that starts removes whatever looks like one there, also another's."""
        made = self.folder / f"tmp-{host.place.number}"
        made.mkdir(exist_ok=True)
        shutil.chown(made, self.ACCOUNT)
        return made

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
        wanted = [str(len(self.hosts)), "Synced"]
        return all(self.says(host.place, *self.command(host, f"--execute={sql}")).split() == wanted
                   for host in self.hosts)

    def write(self, place, marker):
        self.query(place, self.hosts[0], f"insert into markers (marker) values ('{marker}')")

    def read(self, place):
        # The node that is asked may still have what the others have agreed on before it.
        return self.query(place, self.other, "set session wsrep_sync_wait = 1; select marker from markers")


class RabbitMQ(Service):
    """A broker, or a cluster of one on every host, whose queues are mirrored to all."""

    NEEDS = {"/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server", "amqp-publish": "amqp-tools"}
    PORT = 5672
    USER, PASSWORD = "app", "app-in-a-lab"

    def start(self):
        cookie = self.folder / ".erlang.cookie"
        cookie.touch(0o400)
        cookie.write_text("OF-A-LAB-THAT-IS-GONE-IN-A-MINUTE")
        definitions = self.folder / "definitions.json"
        definitions.write_text(json.dumps(self._definitions()))
        (self.folder / "plugins").write_text("[].")
        (self.folder / "nothing.conf").touch()
        for host in self.hosts:
            folder = self.own_folder(host)
            lines = [
                f"listeners.tcp.1 = {host.address}:{self.PORT}", f"load_definitions = {definitions}",
                "cluster_formation.peer_discovery_backend = classic_config", "log.console = true", "log.file = false",
            ]
            seeds = dict.fromkeys([self.hosts[0], host])
            lines += [f"cluster_formation.classic_config.nodes.{number} = {self._name(seed)}"
                      for number, seed in enumerate(seeds, 1)]
            (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
            self.run(host, "/usr/lib/rabbitmq/bin/rabbitmq-server", env=self._environment(host, folder))
            # Two that wait for the first may hold the lock that it needs, and become a cluster without it.
            if host is self.hosts[0]:
                wait_until(lambda: self._has_started(host), 60, "the first node of RabbitMQ did not start")

    def _has_started(self, host):
        # `rabbitmqctl` would take seconds of the processor for each question.
        return "Server startup complete" in self.log(host).read_text(errors="replace")

    @staticmethod
    def _name(host):
        return f"rabbit@{host.address}"

    def _environment(self, host, folder):
        numbers = host.address.replace(".", ",")
        return {
            "RABBITMQ_NODENAME": self._name(host), "RABBITMQ_USE_LONGNAME": "true",
            # The port mapper of Erlang, which the first node of a host starts and nobody ends but the lab.
            "ERL_EPMD_ADDRESS": host.address,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{{numbers}}}",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"), "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "nothing.conf"),
            "RABBITMQ_MNESIA_BASE": str(folder), "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder), "RABBITMQ_SCHEMA_DIR": str(folder),
        }

    def _definitions(self):
        salt = b"lab."
        password = base64.b64encode(salt + hashlib.sha256(salt + self.PASSWORD.encode()).digest()).decode()
        allow = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [{"name": self.USER, "password_hash": password, "tags": "administrator",
                       "hashing_algorithm": "rabbit_password_hashing_sha256"}],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": self.USER, "vhost": "/", **allow}],
            "policies": [{"vhost": "/", "name": "mirrored", "pattern": "", "apply-to": "queues", "priority": 0,
                          "definition": {"ha-mode": "all", "ha-sync-mode": "automatic"}}],
        }

    def is_ready(self):
        return all(self._has_started(host) and self._has_all(host) for host in self.hosts)

    def _has_all(self, host):
        said = self.log(host).read_text(errors="replace")
        return all(f"rabbit on node '{self._name(other)}' up" in said for other in self.hosts if other is not host)

    def command(self, host, program, *words):
        return [program, "--url", f"amqp://{self.USER}:{self.PASSWORD}@{host.address}:{self.PORT}", *words]

    def write(self, place, marker):
        self.client(place, *self.command(self.hosts[0], "amqp-declare-queue", "--queue=markers", "--durable"))
        self.client(place, *self.command(self.hosts[0], "amqp-publish", "--routing-key=markers", f"--body={marker}"))

    def read(self, place):
        return self.answer(lambda: self.says(place, *self.command(self.other, "amqp-get", "--queue=markers")))


class Memcached(Service):
    """One server."""

    NEEDS = {"memcached": "memcached", "memccp": "libmemcached-tools", "memccat": "libmemcached-tools"}
    PORT = 11211

    def start(self):
        for host in self.hosts[:1]:
            self.run(host, "memcached", "-u", "root", "-l", host.address, "-p", self.PORT, "-U", 0, "-m", 16)

    def is_ready(self):
        return listens(self.hosts[0], self.PORT)

    def command(self, program, *words):
        return [program, f"--servers={self.hosts[0].address}:{self.PORT}", *words]

    def write(self, place, marker):
        (self.folder / "marker").write_text(marker)
        self.client(place, *self.command("memccp", self.folder / "marker"))

    def read(self, place):
        return self.client(place, *self.command("memccat", "marker"))


class PowerDNS(Service):
    """A primary, and secondaries that take the zone from it; written by dynamic updates (RFC 2136)."""

    SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
    NEEDS = {
        "pdns_server": "pdns-server", str(SCHEMA): "pdns-backend-sqlite3", "nsupdate": "bind9-dnsutils",
        "dig": "bind9-dnsutils",
    }
    PORT = 53
    ZONE = "lab.test"

    def start(self):
        for host in self.hosts:
            folder = self.own_folder(host)
            database = folder / "zones.sqlite3"
            with sqlite3.connect(database) as tables:
                tables.executescript(self.SCHEMA.read_text())
            tables.close()
            settings = {
                "launch": "gsqlite3", "gsqlite3-database": database, "local-address": host.address,
                "local-port": self.PORT, "socket-dir": folder, "cache-ttl": 0, "query-cache-ttl": 0,
                "negquery-cache-ttl": 0, "zone-cache-refresh-interval": 0, **self.settings(host),
            }
            (folder / "pdns.conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            self.prepare(host)
            self.run(host, "pdns_server", f"--config-dir={folder}", "--guardian=no", "--daemon=no", "--disable-syslog")

    def settings(self, host):
        if host is not self.hosts[0]:
            return {"secondary": "yes", "xfr-cycle-interval": 1}
        return {"primary": "yes", "dnsupdate": "yes", "allow-dnsupdate-from": "0.0.0.0/0",
                "allow-axfr-ips": "0.0.0.0/0", "only-notify": "0.0.0.0/0", "xfr-cycle-interval": 1}

    def prepare(self, host):
        """The zone, with all hosts as its name servers, so that the secondaries are told of a change."""
        util = ["pdnsutil", f"--config-dir={self.own_folder(host)}"]
        if host is not self.hosts[0]:
            self.client(host.place, *util, "create-secondary-zone", self.ZONE, f"{self.hosts[0].address}:{self.PORT}")
            return
        names = [f"ns{number}.{self.ZONE}" for number, _ in enumerate(self.hosts, 1)]
        self.client(host.place, *util, "create-zone", self.ZONE, names[0])
        self.client(host.place, *util, "replace-rrset", self.ZONE, "@", "NS", 60, *(f"{name}." for name in names))
        for name, other in zip(names, self.hosts):
            self.client(host.place, *util, "add-record", self.ZONE, name.partition(".")[0], "A", 60, other.address)
        self.client(host.place, *util, "set-kind", self.ZONE, "primary")
        self.client(host.place, *util, "set-meta", self.ZONE, "NOTIFY-DNSUPDATE", 1)

    def dig(self, place, host, *words):
        return self.says(place, "dig", f"@{host.address}", "-p", self.PORT, "+short", "+tries=1", "+time=2", *words)

    def is_ready(self):
        return all("ns1" in self.dig(host.place, host, self.ZONE, "NS") for host in self.hosts)

    def write(self, place, marker):
        self.client(place, "nsupdate", given=(
            f"server {self.hosts[0].address} {self.PORT}\nzone {self.ZONE}\n"
            f'update add marker.{self.ZONE} 60 TXT "{marker}"\nsend\n'
        ))

    def read(self, place):
        return self.answer(lambda: self.dig(place, self.other, f"marker.{self.ZONE}", "TXT"))


class HttpApi(PowerDNS):
    """PowerDNS's REST API, the one that orchestrators of DNS use; what it has stored is also asked for by DNS."""

    NEEDS = {**PowerDNS.NEEDS, "curl": "curl"}
    PORT = 5300
    API = 8081
    KEY = "key-of-a-lab"

    def settings(self, host):
        return {"api": "yes", "api-key": self.KEY, "webserver-address": host.address, "webserver-port": self.API,
                "webserver-allow-from": "0.0.0.0/0"}

    def prepare(self, host):
        pass

    def is_ready(self):
        return listens(self.hosts[0], self.API)

    def curl(self, place, method, path, body=None):
        more = ["--header", "Content-Type: application/json", "--data", json.dumps(body)] if body else []
        return self.client(
            place, "curl", "--silent", "--show-error", "--fail-with-body", "--max-time", 10, "--request", method,
            "--header", f"X-API-Key: {self.KEY}", *more,
            f"http://{self.hosts[0].address}:{self.API}/api/v1/servers/localhost/zones{path}",
        )

    def write(self, place, marker):
        self.curl(place, "POST", "", {"name": f"{self.ZONE}.", "kind": "Native", "nameservers": [f"ns1.{self.ZONE}."]})
        record = {"name": f"marker.{self.ZONE}.", "type": "TXT", "ttl": 60, "changetype": "REPLACE",
                  "records": [{"content": f'"{marker}"', "disabled": False}]}
        self.curl(place, "PATCH", f"/{self.ZONE}.", {"rrsets": [record]})

    def read(self, place):
        by_http = self.curl(place, "GET", f"/{self.ZONE}.")
        by_dns = self.dig(place, self.hosts[0], f"marker.{self.ZONE}", "TXT").strip().strip('"')
        expect(by_dns and by_dns in by_http, f"the API and DNS do not say the same: {by_http} and {by_dns}")
        return by_dns


class ZooKeeper(Service):
    """A server, or an ensemble with one on every host."""

    NEEDS = {
        "/usr/share/zookeeper/bin/zkCli.sh": "zookeeper", "/usr/share/java/zookeeper.jar": "libzookeeper-java",
        "java": "default-jre-headless",
    }
    PORT = 2181

    def java(self):
        """Options of every Java process: small, soon up, and without files elsewhere."""
        return ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                f"-Duser.home={self.folder}", f"-Dlog4j.configuration=file:{self.folder}/log4j.properties"]

    def start(self):
        (self.folder / "log4j.properties").write_text(
            "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.target=System.err\nlog4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} %m%n\n"
        )
        cluster = [f"server.{other.place.number}={other.address}:2888:3888" for other in self.hosts]
        for host in self.hosts:
            folder = self.own_folder(host)
            (folder / "myid").write_text(f"{host.place.number}\n")
            lines = [
                f"dataDir={folder}", f"clientPortAddress={host.address}", f"clientPort={self.PORT}", "tickTime=1000",
                "initLimit=20", "syncLimit=10", "admin.enableServer=false", "4lw.commands.whitelist=srvr",
                *(cluster if len(cluster) > 1 else []),
            ]
            (folder / "zoo.cfg").write_text("\n".join(lines) + "\n")
            self.run(host, "java", *self.java(), "-cp", "/usr/share/java/zookeeper.jar",
                     "org.apache.zookeeper.server.quorum.QuorumPeerMain", folder / "zoo.cfg")

    def mode(self, host):
        """What a server is: leader, follower, standalone, or nothing yet."""
        try:
            with host.place.open(kind=socket.SOCK_STREAM) as asking:
                asking.settimeout(2)
                asking.connect((host.address, self.PORT))
                asking.sendall(b"srvr")
                said = b""
                while block := asking.recv(4096):
                    said += block
        except OSError:
            return None
        found = re.search(rb"Mode: (\w+)", said)
        return found and found[1].decode()

    def is_ready(self):
        modes = sorted(str(self.mode(host)) for host in self.hosts)
        return modes == (["follower"] * (len(modes) - 1) + ["leader"] if len(modes) > 1 else ["standalone"])

    def command(self, host, *words):
        return ["env", f"CLIENT_JVMFLAGS={' '.join(self.java())}", "/usr/share/zookeeper/bin/zkCli.sh",
                "-server", f"{host.address}:{self.PORT}", *words]

    def write(self, place, marker):
        self.client(place, *self.command(self.hosts[0], "create", "/marker", marker))

    def read(self, place):
        return self.answer(lambda: self.says(place, *self.command(self.other, "get", "/marker")))


class Prometheus(Service):
    """Prometheus on the first host, node exporters on the others.

    What is written is a metric for node exporter's textfile collector, so it crosses twice: to Prometheus, which is
    compressed, and to who asks Prometheus.
    """

    NEEDS = {"prometheus": "prometheus", "prometheus-node-exporter": "prometheus-node-exporter", "curl": "curl"}
    PORT, EXPORTER = 9090, 9100

    def __init__(self, folder, hosts, more=None):
        """`more` are further jobs: a list of targets for each name."""
        super().__init__(folder, hosts)
        self.jobs = {"node": [f"{host.address}:{self.EXPORTER}" for host in self.hosts[1:]], **(more or {})}

    def start(self):
        first = self.hosts[0]
        folder = self.own_folder(first)
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": name, "static_configs": [{"targets": targets}]}
                               for name, targets in self.jobs.items()],
        }
        # JSON is YAML too.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.run(first, "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address={first.address}:{self.PORT}")
        for host in self.hosts[1:]:
            self.run(host, "prometheus-node-exporter", f"--web.listen-address={host.address}:{self.EXPORTER}",
                     "--collector.disable-defaults", "--collector.loadavg", "--collector.meminfo",
                     "--collector.textfile", f"--collector.textfile.directory={self.own_folder(host)}")

    def ask(self, place, query):
        """The results of a query, as Prometheus gives them."""
        said = self.says(place, "curl", "--silent", "--fail", "--max-time", 5, "--get",
                         "--data-urlencode", f"query={query}",
                         f"http://{self.hosts[0].address}:{self.PORT}/api/v1/query")
        return json.loads(said)["data"]["result"] if said else []

    def is_ready(self):
        """All targets have been scraped."""
        up = [one for one in self.ask(self.hosts[0].place, "up") if one["value"][1] == "1"]
        return len(up) == sum(map(len, self.jobs.values()))

    def write(self, place, marker):
        host = next(host for host in self.hosts[1:] if host.place is place)
        new = self.own_folder(host) / "marker.new"
        new.write_text(f'lab_marker{{marker="{marker}"}} 1\n')
        new.rename(new.with_suffix(".prom"))

    def read(self, place):
        return self.answer(lambda: self.ask(place, "lab_marker"))[0]["metric"]["marker"]
