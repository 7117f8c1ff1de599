//! The way to a member of the etcd cluster: one connection at a time, to whichever member answers.
//!
//! The client library can spread requests over all members, but then every third request fails while one of
//! three is down. Here everything goes to one member until that fails, then to the next.

use std::fmt;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::super::DirectoryError;
use super::options::EtcdOptions;

/// How long one member may take to answer before the next is asked.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// How long a request may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that says nothing is asked whether it lives. etcd closes those that ask every 5 s.
const PING: Duration = Duration::from_secs(10);

/// The members and the connection in use.
pub(super) struct Members {
    pub(super) options: EtcdOptions,
    current: Mutex<Current>,
}

struct Current {
    index: usize,
    client: Option<Client>,
}

/// A connection in use, and to whom.
pub(super) struct Lent {
    pub(super) client: Client,
    pub(super) index: usize,
}

impl Members {
    /// Begins anywhere, so that not all nodes go to the first member.
    pub(super) fn new(options: EtcdOptions) -> Self {
        let below = u64::try_from(options.endpoints.len()).unwrap_or(1);
        let index = usize::try_from(random(below)).unwrap_or(0);
        let current = Mutex::new(Current {
            index,
            client: None,
        });
        Self { options, current }
    }

    pub(super) fn count(&self) -> usize {
        self.options.endpoints.len()
    }

    pub(super) fn address(&self, index: usize) -> &str {
        self.options.endpoints.get(index).map_or("", String::as_str)
    }

    /// The connection in use. A new one is made with the files as they are now, so that a renewed
    /// certificate needs no restart; it connects with the first request.
    pub(super) async fn lend(&self) -> Result<Lent, Failure> {
        let mut current = self.current.lock().await;
        let index = current.index;
        if let Some(client) = &current.client {
            let client = client.clone();
            return Ok(Lent { client, index });
        }
        let options = ConnectOptions::new()
            .with_tls(tls(&self.options).map_err(Failure::Away)?)
            .with_connect_timeout(ANSWER)
            .with_keep_alive(PING, PING / 2)
            .with_require_leader(true);
        let made = Client::connect([self.address(index)], Some(options)).await;
        let client = made.map_err(|error| Failure::Away(unusable(&self.options, &error)))?;
        current.client = Some(client.clone());
        Ok(Lent { client, index })
    }

    /// Turns to the next member, unless somebody already has.
    pub(super) async fn failed(&self, index: usize) {
        let mut current = self.current.lock().await;
        if current.index == index {
            current.index = (index + 1) % self.count();
            current.client = None;
        }
    }

    /// Asks one member after another, each at most [`ANSWER`] and at most [`PATIENCE`] in all.
    pub(super) async fn request<T>(
        &self,
        ask: impl AsyncFn(Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let begin = Instant::now();
        let mut said = Complaints::default();
        // Once more than there are members: the connection in use may have been dead for long.
        for _ in 0..=self.count() {
            let rest = PATIENCE.saturating_sub(begin.elapsed());
            if rest.is_zero() {
                break;
            }
            let lent = self.lend().await?;
            let answer = timeout(rest.min(ANSWER), ask(lent.client)).await;
            match answer
                .unwrap_or_else(|_| Err(silence()))
                .map_err(Failure::from)
            {
                Err(Failure::Away(why)) => said.add(self.address(lent.index), &why),
                decided => return decided,
            }
            self.failed(lent.index).await;
        }
        Err(Failure::Away(said.to_string()))
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why a request came to nothing.
pub(super) enum Failure {
    /// No member could be asked: another time may be better.
    Away(String),
    /// etcd understood and said no; another member would say the same.
    Refused(String),
    /// What was asked about, a lease, does not exist.
    Missing(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = explain(&error);
        match code(&error) {
            // Users were changed between two looks of etcd at them.
            INVALID_ARGUMENT if text.contains("auth store is old") => Self::Away(text),
            INVALID_ARGUMENT | PERMISSION_DENIED | RESOURCE_EXHAUSTED | UNAUTHENTICATED => {
                Self::Refused(text)
            }
            NOT_FOUND => Self::Missing(text),
            _ if matches!(error, Error::LeaseKeepAliveError(_)) => Self::Missing(text),
            _ => Self::Away(text),
        }
    }
}

impl From<Failure> for DirectoryError {
    fn from(failure: Failure) -> Self {
        let (Failure::Away(why) | Failure::Refused(why) | Failure::Missing(why)) = failure;
        Self(format!("etcd: {why}"))
    }
}

/// What went wrong at which member, without saying the same thing three times.
#[derive(Default)]
pub(super) struct Complaints(Vec<(String, Vec<String>)>);

impl Complaints {
    pub(super) fn add(&mut self, address: &str, why: &str) {
        let address = address.to_owned();
        let Some((_, addresses)) = self.0.iter_mut().find(|(text, _)| text == why) else {
            self.0.push((why.to_owned(), vec![address]));
            return;
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .enumerate()
            .try_for_each(|(index, (why, addresses))| {
                let between = if index == 0 { "" } else { "; " };
                write!(f, "{between}{}: {why}", addresses.join(", "))
            })
    }
}

// The numbers of gRPC's status codes.
pub(super) const OUT_OF_RANGE: i32 = 11;
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNAUTHENTICATED: i32 = 16;

pub(super) fn code(error: &Error) -> i32 {
    match error {
        Error::GRpcStatus(status) => i32::from(status.code()),
        _ => 0,
    }
}

/// A member that did not answer in time.
pub(super) fn silence() -> Error {
    Error::Internal(format!("no answer within {} s", ANSWER.as_secs()))
}

/// A number below the limit, for spreading things out; not for secrets.
pub(super) fn random(limit: u64) -> u64 {
    RandomState::new().hash_one(0_u8) % limit.max(1)
}

/// The innermost reason is the one that helps: around it is only where it was noticed.
pub(super) fn explain(error: &Error) -> String {
    let text = match error {
        Error::GRpcStatus(status) => {
            innermost(status).unwrap_or_else(|| status.message().to_owned())
        }
        Error::TransportError(error) => innermost(error).unwrap_or_else(|| error.to_string()),
        Error::Internal(text) => text.clone(),
        other => other.to_string(),
    };
    let hint = hint(&text).map(|hint| format!(" ({hint})"));
    format!("{text}{}", hint.unwrap_or_default())
}

fn innermost(error: &dyn std::error::Error) -> Option<String> {
    let mut deepest = error.source()?;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    Some(deepest.to_string())
}

/// What the terse words of TLS and etcd mean to an operator.
fn hint(text: &str) -> Option<&'static str> {
    // A certificate is refused after the handshake as we see it: sometimes all that is left to see is a
    // connection that ended.
    const ENDED: &str = "it is stopping, or it does not accept our certificate, given as `cert`";
    const CLOCK: &str = "or the clock of this machine is wrong";
    const HINTS: [(&str, &str); 9] = [
        (
            "permission denied",
            "the user in our certificate's common name may not do this",
        ),
        ("user name is empty", "our certificate has no common name"),
        (
            "received fatal alert",
            "it does not accept our certificate, given as `cert`",
        ),
        ("connection closed", ENDED),
        ("broken pipe", ENDED),
        ("reset by peer", ENDED),
        (
            "UnknownIssuer",
            "its certificate is not from the authority given as `ca`",
        ),
        ("certificate expired", CLOCK),
        ("certificate not valid yet", CLOCK),
    ];
    HINTS
        .iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, hint)| *hint)
}

fn tls(options: &EtcdOptions) -> Result<TlsOptions, String> {
    let ca = Certificate::from_pem(read("ca", &options.ca)?);
    let identity = Identity::from_pem(read("cert", &options.cert)?, read("key", &options.key)?);
    Ok(TlsOptions::new().ca_certificate(ca).identity(identity))
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| format!("{what} {shown} cannot be read: {error}"))?;
    if text.windows(11).any(|part| part == b"-----BEGIN ") {
        return Ok(text);
    }
    Err(format!("{what} {shown} is not in PEM form"))
}

fn unusable(options: &EtcdOptions, error: &Error) -> String {
    let (ca, cert, key) = (
        options.ca.display(),
        options.cert.display(),
        options.key.display(),
    );
    format!(
        "ca {ca}, cert {cert} and key {key} cannot be used together: {}",
        explain(error)
    )
}
