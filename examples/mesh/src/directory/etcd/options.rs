//! Where etcd is and how we show who we are, from a struct or from one line:
//! `etcd:https://a:2379,https://b:2379?ca=FILE&cert=FILE&key=FILE&prefix=/quietwire/MESH&ttl=12h`.
//!
//! Only `https`, and only with a certificate of our own. Whoever can change what etcd says decides who is
//! in the mesh, so there is no form without these.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::super::DirectoryError;

/// The shortest time to live of a record, so that a busy machine does not lose it by accident.
pub const SHORTEST_TTL: Duration = Duration::from_secs(5);

/// The longest, about a year. etcd itself ends at nine thousand million seconds.
pub const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

const DEFAULT_PREFIX: &str = "/quietwire/mesh";

/// How to reach the etcd that keeps the records of one mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOptions {
    /// The client addresses of the members, each `https://HOST:PORT`. One that works is enough.
    pub endpoints: Vec<String>,
    /// The authority that signed the members' certificates, in PEM.
    pub ca: PathBuf,
    /// Our certificate in PEM. Its common name is our user in etcd and the name of this node.
    pub cert: PathBuf,
    /// The private key of our certificate, in PEM.
    pub key: PathBuf,
    /// What the keys of this mesh begin with: records are at `PREFIX/nodes/NAME`.
    pub prefix: String,
    /// How long our record outlives us. `None`, the default: until it is withdrawn.
    pub ttl: Option<Duration>,
}

impl EtcdOptions {
    /// What the key of every record begins with.
    pub(super) fn nodes(&self) -> String {
        format!("{}/nodes/", self.prefix)
    }

    /// Says what is wrong with values that may not have come from a line.
    pub(super) fn check(&self) -> Result<(), DirectoryError> {
        if self.endpoints.is_empty() {
            return Err(wrong("an address such as https://host:2379 is missing"));
        }
        self.endpoints.iter().try_for_each(|one| endpoint(one))?;
        prefix(&self.prefix)?;
        self.ttl.map_or(Ok(()), in_range)
    }
}

impl FromStr for EtcdOptions {
    type Err = DirectoryError;

    fn from_str(line: &str) -> Result<Self, DirectoryError> {
        let rest = line
            .strip_prefix("etcd:")
            .ok_or_else(|| wrong(&format!("`{line}` does not begin with `etcd:`")))?;
        let (hosts, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let mut found = Settings::default();
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            found.take(setting)?;
        }
        let options = found.with(hosts.split(',').filter(|host| !host.is_empty()))?;
        options.check()?;
        Ok(options)
    }
}

/// What stood after the question mark.
#[derive(Default)]
struct Settings {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    prefix: Option<String>,
    ttl: Option<String>,
}

impl Settings {
    fn take(&mut self, setting: &str) -> Result<(), DirectoryError> {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| wrong(&format!("`{setting}` is not of the form name=value")))?;
        let place = match name {
            "ca" => &mut self.ca,
            "cert" => &mut self.cert,
            "key" => &mut self.key,
            "prefix" => &mut self.prefix,
            "ttl" => &mut self.ttl,
            _ => {
                let known = "ca, cert, key, prefix and ttl";
                return Err(wrong(&format!(
                    "`{name}` is not a setting; there are {known}"
                )));
            }
        };
        if value.is_empty() {
            return Err(wrong(&format!("`{name}` is empty")));
        }
        match place.replace(value.to_owned()) {
            Some(_) => Err(wrong(&format!("`{name}` is given twice"))),
            None => Ok(()),
        }
    }

    fn with<'a>(self, hosts: impl Iterator<Item = &'a str>) -> Result<EtcdOptions, DirectoryError> {
        Ok(EtcdOptions {
            endpoints: hosts
                .map(|host| host.trim_end_matches('/').to_owned())
                .collect(),
            ca: file(self.ca, "ca", "the certificate of the authority")?,
            cert: file(self.cert, "cert", "this node's certificate")?,
            key: file(
                self.key,
                "key",
                "the private key of this node's certificate",
            )?,
            prefix: self.prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
            ttl: self.ttl.as_deref().map(time).transpose()?,
        })
    }
}

fn file(value: Option<String>, name: &str, what: &str) -> Result<PathBuf, DirectoryError> {
    let missing = || wrong(&format!("`{name}=FILE` is missing: {what}, in PEM"));
    value.map(PathBuf::from).ok_or_else(missing)
}

fn endpoint(text: &str) -> Result<(), DirectoryError> {
    let host_and_port = text.strip_prefix("https://").ok_or_else(|| {
        wrong(&format!(
            "`{text}` is not an https:// address, and nothing else is safe here"
        ))
    })?;
    let (host, port) = host_and_port
        .rsplit_once(':')
        .ok_or_else(|| wrong(&format!("`{text}` has no port; etcd's is 2379")))?;
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(wrong(&format!("`{text}` does not name a host")));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(wrong(&format!("`{port}` in `{text}` is not a port"))),
    }
}

fn prefix(text: &str) -> Result<(), DirectoryError> {
    let plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(()),
        _ => Err(wrong(&format!(
            "prefix `{text}` is not of the form /quietwire/MESH"
        ))),
    }
}

/// A number of seconds, or one with a unit: `90s`, `15m`, `12h`, `7d`.
fn time(text: &str) -> Result<Duration, DirectoryError> {
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let seconds = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    number
        .zip(seconds)
        .and_then(|(number, seconds)| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| {
            wrong(&format!(
                "ttl `{text}` is not a time such as 90s, 15m, 12h or 7d"
            ))
        })
}

fn in_range(ttl: Duration) -> Result<(), DirectoryError> {
    if (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
        return Ok(());
    }
    let (least, most) = (SHORTEST_TTL.as_secs(), LONGEST_TTL.as_secs() / (24 * 3600));
    Err(wrong(&format!(
        "ttl of {} s is not between {least} s and {most} d",
        ttl.as_secs()
    )))
}

fn wrong(what: &str) -> DirectoryError {
    DirectoryError(format!("etcd: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &str = "ca=/c&cert=/n&key=/k";

    fn refused(line: &str) -> String {
        line.parse::<EtcdOptions>().unwrap_err().0
    }

    #[test]
    fn everything_is_read() {
        let line =
            "etcd:https://a:2379,https://[::1]:12379/?ca=/c&cert=/n&key=/k&prefix=/x/y&ttl=12h";
        let expected = EtcdOptions {
            endpoints: vec![
                "https://a:2379".to_owned(),
                "https://[::1]:12379".to_owned(),
            ],
            ca: "/c".into(),
            cert: "/n".into(),
            key: "/k".into(),
            prefix: "/x/y".to_owned(),
            ttl: Some(Duration::from_secs(43_200)),
        };
        assert_eq!(line.parse::<EtcdOptions>().unwrap(), expected);
        assert_eq!(expected.nodes(), "/x/y/nodes/");
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let options: EtcdOptions = format!("etcd:https://a:2379?{FILES}").parse().unwrap();
        assert_eq!(
            (options.prefix.as_str(), options.ttl),
            ("/quietwire/mesh", None)
        );
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("2h", 7200),
            ("7d", 604_800),
        ] {
            assert_eq!(time(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in [
            "",
            "h",
            "-5s",
            "1.5h",
            "10 s",
            "5w",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(
                time(text).unwrap_err().0.contains("is not a time"),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_name_the_address() {
        for (hosts, part) in [
            ("", "an address"),
            ("http://a:2379", "`http://a:2379` is not an https"),
            ("https://a", "`https://a` has no port"),
            ("https://:2379", "does not name a host"),
            ("https://a/b:2379", "does not name a host"),
            ("https://b:1,https://a:0", "`0` in `https://a:0` is not"),
            ("https://a:x", "`x` in `https://a:x` is not"),
        ] {
            let said = refused(&format!("etcd:{hosts}?{FILES}"));
            assert!(said.contains(part), "{hosts}: {said}");
        }
        assert!(refused("https://a:1").contains("does not begin with `etcd:`"));
    }

    #[test]
    fn errors_name_the_setting() {
        for (settings, part) in [
            ("cert=/n&key=/k", "`ca=FILE` is missing"),
            ("ca=/c&key=/k", "`cert=FILE` is missing"),
            ("ca=/c&cert=/n", "`key=FILE` is missing"),
            ("ca=/c&ca=/d", "`ca` is given twice"),
            ("user=me", "`user` is not a setting"),
            ("prefix", "`prefix` is not of the form name=value"),
            ("prefix=", "`prefix` is empty"),
        ] {
            let said = refused(&format!("etcd:https://a:1?{settings}"));
            assert!(said.contains(part), "{settings}: {said}");
        }
        for (setting, part) in [
            ("prefix=x", "prefix `x`"),
            ("prefix=/x/", "prefix `/x/`"),
            ("prefix=/x//y", "prefix `/x//y`"),
            ("ttl=soon", "ttl `soon`"),
            ("ttl=4s", "ttl of 4 s"),
            ("ttl=366d", "ttl of 31622400 s"),
        ] {
            let said = refused(&format!("etcd:https://a:1?{FILES}&{setting}"));
            assert!(said.contains(part), "{setting}: {said}");
        }
    }
}
