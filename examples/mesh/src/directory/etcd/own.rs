//! Our own record: puts it in place, keeps its lease alive, and puts it there again when etcd has lost it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use etcd_client::{Client, PutOptions};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::super::DirectoryError;
use super::members::{Failure, Members};

/// After what failed, at the latest.
const SOON: Duration = Duration::from_secs(10);

/// What we want to be in etcd.
pub(super) struct Own {
    members: Rc<Members>,
    record: RefCell<Option<(String, String)>>,
    lease: Cell<Option<Lease>>,
    next: Cell<Option<Instant>>,
    lost: Notify,
}

#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    ttl: Duration,
}

impl Own {
    pub(super) fn new(members: Rc<Members>) -> Self {
        let (record, lost) = (RefCell::default(), Notify::new());
        Self {
            members,
            record,
            lease: Cell::new(None),
            next: Cell::new(None),
            lost,
        }
    }

    pub(super) async fn publish(&self, name: &str, record: &str) -> Result<(), DirectoryError> {
        self.record.replace(None);
        self.put(name, record).await?;
        self.record
            .replace(Some((name.to_owned(), record.to_owned())));
        Ok(())
    }

    pub(super) async fn withdraw(&self, name: &str) -> Result<(), DirectoryError> {
        let key = self.key(name)?;
        let delete = async |mut client: Client| client.delete(key.as_str(), None).await;
        // If that fails the record stays, and its lease is to be kept alive.
        self.members.request(delete).await?;
        self.record.replace(None);
        self.next.set(None);
        if let Some(lease) = self.lease.take() {
            let revoke = async |mut client: Client| client.lease_revoke(lease.id).await;
            // It would end by itself.
            drop(self.members.request(revoke).await);
        }
        Ok(())
    }

    /// Looks whether our record is among those that were read.
    pub(super) fn compare(&self, records: &[(String, String)]) {
        if self
            .record
            .borrow()
            .as_ref()
            .is_some_and(|own| !records.contains(own))
        {
            self.lost.notify_one();
        }
    }

    /// Returns when [`tend`](Self::tend) has something to do.
    pub(super) async fn due(&self) {
        let next = async {
            match self.next.get() {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            // The lease, if there was one, is of no use to a record that is gone.
            () = self.lost.notified() => self.lease.set(None),
        }
    }

    /// Keeps the lease alive, or puts the record in place with a new one.
    pub(super) async fn tend(&self) {
        self.next.set(None);
        if let Some(lease) = self.lease.get() {
            match self.keep_alive(lease).await {
                Ok(()) => return self.tend_in(lease.ttl / 3),
                Err(Failure::Missing(_)) => self.lease.set(None),
                Err(_) => return self.tend_in(SOON.min(lease.ttl / 3)),
            }
        }
        let Some((name, record)) = self.record.borrow().clone() else {
            return;
        };
        info!("etcd: our record is not there any more and is published again");
        if let Err(error) = self.put(&name, &record).await {
            warn!("etcd: our record could not be published again: {error}");
            self.tend_in(SOON);
        }
    }

    fn tend_in(&self, pause: Duration) {
        self.next.set(Some(Instant::now() + pause));
    }

    async fn keep_alive(&self, lease: Lease) -> Result<(), Failure> {
        let beat = async |mut client: Client| client.lease_keep_alive(lease.id).await.map(drop);
        self.members.request(beat).await
    }

    async fn put(&self, name: &str, record: &str) -> Result<(), DirectoryError> {
        let key = self.key(name)?;
        let known = self.lease.get().is_some();
        match self.put_once(&key, record).await {
            Err(Failure::Missing(_)) if known => {
                self.lease.set(None);
                Ok(self.put_once(&key, record).await?)
            }
            decided => Ok(decided?),
        }
    }

    async fn put_once(&self, key: &str, record: &str) -> Result<(), Failure> {
        let options = self
            .lease()
            .await?
            .map(|id| PutOptions::new().with_lease(id));
        let put =
            async |mut client: Client| client.put(key, record, options.clone()).await.map(drop);
        self.members.request(put).await
    }

    /// The lease for our record, if it is to have one.
    async fn lease(&self) -> Result<Option<i64>, Failure> {
        let (Some(ttl), None) = (self.members.options.ttl, self.lease.get()) else {
            return Ok(self.lease.get().map(|lease| lease.id));
        };
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let grant = async |mut client: Client| client.lease_grant(seconds, None).await;
        let granted = self.members.request(grant).await?;
        // etcd may think it better to give more.
        let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(ttl.as_secs()));
        self.lease.set(Some(Lease {
            id: granted.id(),
            ttl,
        }));
        self.tend_in(ttl / 3);
        Ok(Some(granted.id()))
    }

    fn key(&self, name: &str) -> Result<String, DirectoryError> {
        if name.is_empty() || name.contains('/') {
            return Err(DirectoryError(format!(
                "etcd: {name:?} cannot be the name of a record"
            )));
        }
        Ok(format!("{}{name}", self.members.options.nodes()))
    }
}
