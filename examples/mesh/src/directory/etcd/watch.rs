//! Reads all records, then follows what changes from exactly there, for as long as somebody listens.
//!
//! When a member is lost, the others are tried at once and the watch goes on from where it was; nobody is
//! told, as nothing was missed. Only when no member answers is the outage told, once, and all records are
//! read anew after it. They are also read anew when etcd has forgotten the changes since (compaction), or
//! is not the cluster it was (restored from a backup).

use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions, GetResponse, KeyValue, ResponseHeader};
use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::super::News;
use super::members::{ANSWER, Complaints, Failure, Members};
use super::members::{OUT_OF_RANGE, code, explain, random, silence};
use super::own::Own;

/// The pause after the first round over all members, which doubles with each round.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Short beside the time that a new key is announced ahead: who does not hear of it in time loses that node for a while.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What lasted this long was no accident: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);
/// Records in one answer, at first.
const PAGE: i64 = 500;

/// One who listens, and how far they are.
pub(super) struct Watch {
    members: Rc<Members>,
    own: Rc<Own>,
    news: Sender<News>,
    at: Option<Position>,
    away: bool,
}

/// The first change that was not told, and the cluster that counts so.
#[derive(Clone, Copy)]
struct Position {
    next: i64,
    cluster: u64,
}

/// Why following ended.
enum End {
    /// Nobody listens any more.
    Unheard,
    /// The position is worth nothing: all must be read anew.
    Outdated(String),
    /// This member is of no use now.
    Lost(String),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Lost(explain(&error))
    }
}

impl Watch {
    pub(super) fn new(members: Rc<Members>, own: Rc<Own>, news: Sender<News>) -> Self {
        Self {
            members,
            own,
            news,
            at: None,
            away: false,
        }
    }

    /// Until nobody listens.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let (mut losses, mut said) = (0, Complaints::default());
        loop {
            let begin = Instant::now();
            let (address, end) = self.follow_one().await;
            let why = match end {
                End::Unheard => return,
                End::Outdated(why) => {
                    info!("etcd: all records are read anew: {why}");
                    self.at = None;
                    sleep(FIRST_PAUSE).await;
                    continue;
                }
                End::Lost(why) => why,
            };
            if begin.elapsed() >= STEADY {
                (losses, said, pause) = (0, Complaints::default(), FIRST_PAUSE);
            }
            losses += 1;
            said.add(&address, &why);
            // One loss, and then a try at every member.
            if losses > self.members.count() {
                if self.unreachable(&said).is_err() {
                    return;
                }
                sleep(around(pause)).await;
                pause = LONGEST_PAUSE.min(pause * 2);
                (losses, said) = (0, Complaints::default());
            }
        }
    }

    /// Follows with one member until that ends, and says which it was.
    async fn follow_one(&mut self) -> (String, End) {
        let lent = match self.members.lend().await {
            Ok(lent) => lent,
            Err(Failure::Away(why) | Failure::Refused(why) | Failure::Missing(why)) => {
                return ("here".to_owned(), End::Lost(why));
            }
        };
        let Err(end) = self.follow(lent.client).await;
        if matches!(end, End::Lost(_)) {
            self.members.failed(lent.index).await;
        }
        (self.members.address(lent.index).to_owned(), end)
    }

    async fn follow(&mut self, mut client: Client) -> Result<std::convert::Infallible, End> {
        let mut at = match self.at {
            Some(at) => at,
            None => self.read(&mut client).await?,
        };
        let mut stream = self.begin(&mut client, at).await?;
        loop {
            let response = stream.message().await?.ok_or_else(closed)?;
            check(&response)?;
            for kv in response.events().iter().filter_map(etcd_client::Event::kv) {
                self.tell(self.change(kv))?;
                // Not the one after: a revision may come in several pieces. Telling twice does no harm.
                at.next = kv.mod_revision();
            }
            self.at = Some(at);
        }
    }

    /// Reads and tells all records.
    async fn read(&mut self, client: &mut Client) -> Result<Position, End> {
        let (records, at) = list(client, &self.members.options.nodes()).await?;
        self.own.compare(&records);
        self.tell(News::Everything(records))?;
        if std::mem::take(&mut self.away) {
            info!("etcd: reachable again");
        }
        self.at = Some(at);
        Ok(at)
    }

    /// A watch that surely sees every change from the position on.
    async fn begin(&self, client: &mut Client, at: Position) -> Result<WatchStream, End> {
        let nodes = self.members.options.nodes();
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(at.next)
            .with_fragment();
        let asked = timeout(ANSWER, async {
            let mut stream = client.watch(nodes, Some(options)).await?;
            let first = stream.message().await?;
            Ok::<_, Error>((stream, first))
        });
        let (stream, first) = asked.await.unwrap_or_else(|_| Err(silence()))?;
        let first = first.ok_or_else(closed)?;
        check(&first)?;
        let now = first.header().map(position).ok_or_else(closed)?;
        // A watch from the future would be silent until then.
        if now.cluster != at.cluster || now.next < at.next {
            return Err(End::Outdated(
                "etcd is not as far as it was, or another one".to_owned(),
            ));
        }
        Ok(stream)
    }

    fn change(&self, kv: &KeyValue) -> News {
        let name = name(kv, &self.members.options.nodes());
        // What was deleted has no version.
        if kv.version() == 0 {
            return News::Gone(name);
        }
        let record = text(kv.value(), &name);
        News::Changed(name, record)
    }

    fn unreachable(&mut self, said: &Complaints) -> Result<(), End> {
        self.at = None;
        if std::mem::replace(&mut self.away, true) {
            return Ok(());
        }
        warn!("etcd: unreachable: {said}");
        self.tell(News::Unreachable(said.to_string()))
    }

    fn tell(&self, news: News) -> Result<(), End> {
        self.news.send(news).map_err(|_| End::Unheard)
    }
}

/// All records as they were at one moment, and the moment after it.
async fn list(client: &mut Client, nodes: &str) -> Result<(Vec<(String, String)>, Position), End> {
    let (mut records, mut from, mut at) = (Vec::new(), nodes.as_bytes().to_vec(), None);
    loop {
        let page = page(
            client,
            &from,
            nodes,
            at.map_or(0, |at: Position| at.next - 1),
        )
        .await?;
        let header = page.header().ok_or_else(closed)?;
        let begin = *at.get_or_insert_with(|| position(header));
        records.extend(page.kvs().iter().map(|kv| {
            let name = name(kv, nodes);
            let record = text(kv.value(), &name);
            (name, record)
        }));
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            _ => return Ok((records, begin)),
        }
    }
}

/// Some records, as many as fit: they may be far larger than they should be.
async fn page(client: &mut Client, from: &[u8], nodes: &str, at: i64) -> Result<GetResponse, End> {
    let mut limit = PAGE;
    loop {
        let options = GetOptions::new()
            .with_range(after(nodes))
            .with_revision(at)
            .with_limit(limit);
        let asked = timeout(ANSWER, client.get(from, Some(options)));
        match asked.await.unwrap_or_else(|_| Err(silence())) {
            Err(error) if code(&error) == OUT_OF_RANGE && limit > 1 && !compacted(&error) => {
                limit = (limit / 8).max(1);
            }
            Err(error) if compacted(&error) => return Err(End::Outdated(explain(&error))),
            answer => return Ok(answer?),
        }
    }
}

fn compacted(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains("compacted"))
}

/// The end of the keys that begin so: `/` is followed by `0`.
fn after(nodes: &str) -> String {
    format!("{}0", nodes.trim_end_matches('/'))
}

fn position(header: &ResponseHeader) -> Position {
    Position {
        next: header.revision() + 1,
        cluster: header.cluster_id(),
    }
}

fn check(response: &WatchResponse) -> Result<(), End> {
    if response.compact_revision() != 0 {
        let forgot = format!(
            "etcd keeps changes only since {}",
            response.compact_revision()
        );
        return Err(End::Outdated(forgot));
    }
    if response.canceled() {
        return Err(End::Lost(format!(
            "etcd ended the watch: {}",
            response.cancel_reason()
        )));
    }
    Ok(())
}

fn closed() -> End {
    End::Lost("etcd closed the connection".to_owned())
}

fn name(kv: &KeyValue, nodes: &str) -> String {
    let key = String::from_utf8_lossy(kv.key());
    key.strip_prefix(nodes).unwrap_or(&key).to_owned()
}

/// What is no text becomes text that is no record, so that it is refused under its name.
fn text(value: &[u8], name: &str) -> String {
    match str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            warn!("etcd: the record of {name:?} is not text: {error}");
            String::from_utf8_lossy(value).into_owned()
        }
    }
}

/// From half to one and a half times as long, so that not all nodes come back at once.
fn around(pause: Duration) -> Duration {
    let thousandths = u32::try_from(random(1000)).unwrap_or(0);
    pause * (500 + thousandths) / 1000
}
