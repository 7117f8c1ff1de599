//! Addresses of files on the web.

use std::fmt;
use std::str::FromStr;

/// An address of the form `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// A name or an address; IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(format!("{text}: only http:// addresses can be fetched"));
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, "80"),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port
            .parse()
            .map_err(|_| format!("{text}: the port is not a number"))?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_plain(host) || !is_plain(path) || host.contains('@') {
            return Err(format!("{text}: expected http://host[:port][/path]"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }
}

/// The value of the `Host` field.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, 80) => write!(f, "[{}]", self.host),
            (true, port) => write!(f, "[{}]:{port}", self.host),
            (false, 80) => f.write_str(&self.host),
            (false, port) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |text: &str| {
            text.parse::<Url>()
                .map(|url| (url.host, url.port, url.path))
        };
        let expect = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(parts("http://a.example"), expect("a.example", 80, "/"));
        assert_eq!(
            parts("http://10.0.0.1:8000/x?y#z"),
            expect("10.0.0.1", 8000, "/x?y")
        );
        assert_eq!(parts("http://[fd00::1]:81/"), expect("fd00::1", 81, "/"));
        assert_eq!(parts("http://[fd00::1]?q"), expect("fd00::1", 80, "/?q"));
        for wrong in [
            "https://a/",
            "http:///x",
            "http://a:b/",
            "http://a/\r\nX: y",
            "http://u@a/",
        ] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
