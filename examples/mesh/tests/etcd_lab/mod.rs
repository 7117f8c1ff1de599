//! A real etcd of three members for one test, nodes that publish, and listeners that remember.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quietwire_mesh::directory::etcd::{EtcdDirectory, EtcdOptions};
use quietwire_mesh::directory::{Directory, News};

/// One cluster at a time is enough for a small machine.
static ONE: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A cluster that ends with the test.
pub(crate) struct Cluster {
    pub(crate) place: PathBuf,
    _one: MutexGuard<'static, ()>,
}

impl Cluster {
    /// None, said loudly, where etcd is not installed.
    pub(crate) fn start() -> Option<Self> {
        let found = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        };
        if let Some(missing) = ["etcd", "etcdctl", "openssl"]
            .iter()
            .find(|name| !found(name))
        {
            eprintln!(
                "SKIPPED: no `{missing}` (apt-get install -y etcd-server etcd-client openssl)"
            );
            return None;
        }
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("quietwire-etcd-{}-{number}", std::process::id());
        let cluster = Self {
            place: std::env::temp_dir().join(name),
            _one: one,
        };
        cluster.run0("start");
        Some(cluster)
    }

    /// Runs the script, which must succeed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, command: &str, arguments: &[A]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/etcd/cluster");
        let done = Command::new("timeout")
            .args(["90", script, command])
            .arg(&self.place)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "cluster {command}: {said}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub(crate) fn run0(&self, command: &str) -> String {
        self.run::<&str>(command, &[])
    }

    /// Makes a node and says how it reaches etcd.
    pub(crate) fn node(&self, name: &str) -> EtcdOptions {
        self.run("add-node", &[name]).trim().parse().unwrap()
    }

    /// The user that may do everything.
    pub(crate) fn root(&self, node: &EtcdOptions) -> EtcdOptions {
        let (cert, key) = (self.place.join("root.pem"), self.place.join("root.key"));
        EtcdOptions {
            cert,
            key,
            ..node.clone()
        }
    }

    pub(crate) fn signal(&self, member: u32, signal: &str) {
        let pid = std::fs::read_to_string(self.place.join(format!("member{member}/pid"))).unwrap();
        let done = Command::new("kill")
            .args([signal, pid.trim()])
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/etcd/cluster");
        let ended = Command::new(script).arg("kill").arg(&self.place).status();
        // A test that failed has said why; what ends it must not add to that.
        assert!(std::thread::panicking() || ended.is_ok_and(|status| status.success()));
        drop(std::fs::remove_dir_all(&self.place));
    }
}

/// A directory that is ready.
pub(crate) fn open(options: &EtcdOptions) -> EtcdDirectory {
    EtcdDirectory::new(options.clone()).unwrap()
}

/// The options with some of the members only.
pub(crate) fn only(options: &EtcdOptions, members: &[usize]) -> EtcdOptions {
    let endpoints = members
        .iter()
        .map(|number| options.endpoints[number - 1].clone())
        .collect();
    EtcdOptions {
        endpoints,
        ..options.clone()
    }
}

/// Somebody who watches, and all that they were told.
pub(crate) struct Listener {
    pub(crate) directory: EtcdDirectory,
    news: Receiver<News>,
    pub(crate) log: Vec<News>,
    pub(crate) records: BTreeMap<String, String>,
}

impl Listener {
    pub(crate) fn new(options: &EtcdOptions) -> Self {
        let (sender, news) = channel();
        let mut directory = open(options);
        directory.watch(sender).unwrap();
        Self {
            directory,
            news,
            log: Vec::new(),
            records: BTreeMap::new(),
        }
    }

    /// Listens until it is so; fails when it is not within the time.
    pub(crate) fn until(&mut self, seconds: u64, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !so(self) {
            let rest = end.saturating_duration_since(Instant::now());
            let Ok(news) = self.news.recv_timeout(rest) else {
                panic!("not within {seconds} s; told: {:?}", self.log);
            };
            self.take(news);
        }
    }

    /// Listens for so long, whatever comes.
    pub(crate) fn for_a_while(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(news) = self
            .news
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.take(news);
        }
    }

    pub(crate) fn until_record(&mut self, seconds: u64, name: &str, record: &str) {
        self.until(seconds, |me| {
            me.records.get(name).is_some_and(|found| found == record)
        });
    }

    pub(crate) fn until_gone(&mut self, seconds: u64, name: &str) {
        self.until(seconds, |me| !me.records.contains_key(name));
    }

    /// How often everything was told, and how often that etcd is away.
    pub(crate) fn told(&self) -> (usize, usize) {
        let all = self
            .log
            .iter()
            .filter(|news| matches!(news, News::Everything(_)));
        let away = self
            .log
            .iter()
            .filter(|news| matches!(news, News::Unreachable(_)));
        (all.count(), away.count())
    }

    pub(crate) fn why_away(&self) -> Option<&str> {
        self.log.iter().rev().find_map(|news| match news {
            News::Unreachable(why) => Some(why.as_str()),
            _ => None,
        })
    }

    fn take(&mut self, news: News) {
        match news.clone() {
            News::Everything(all) => self.records = all.into_iter().collect(),
            News::Changed(name, record) => drop(self.records.insert(name, record)),
            News::Gone(name) => drop(self.records.remove(&name)),
            News::Unreachable(_) => {}
        }
        self.log.push(news);
    }
}
