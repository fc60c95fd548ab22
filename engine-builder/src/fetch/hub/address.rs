//! Addresses: which are asked, which redirects are followed, and who gets the
//! token. No decision here looks at the network.

use std::net::IpAddr;

use hyper::Uri;

/// The address of a hub or mirror, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    address: Address,
    /// Without a slash at its end.
    path: String,
}

/// One address of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query. The query may hold a signature, and is never shown.
    pub(super) target: String,
}

/// Why a text is no address of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    #[error("is not an address like https://hub.example")]
    Malformed,
    #[error("carries a name or password, which everybody could see; use --token-file")]
    Secret,
    #[error("is not https, and http is only believed from this machine itself")]
    NotHttps,
    #[error("has a query")]
    Query,
}

impl Base {
    /// # Errors
    /// See [`NotAnAddress`].
    pub fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let mut address = Address::parse(text)?;
        if address.target.contains('?') {
            return Err(NotAnAddress::Query);
        }
        let path = std::mem::take(&mut address.target);
        Ok(Self { path: path.trim_end_matches('/').to_owned(), address })
    }

    /// Where a file is. All three are of characters that stand for themselves.
    pub(super) fn file(&self, repository: &str, revision: &str, file: &str) -> Address {
        let target = format!("{}/{repository}/resolve/{revision}/{file}", self.path);
        Address { target, ..self.address.clone() }
    }

    pub(super) fn to_text(&self) -> String {
        let scheme = if self.address.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address.authority(), self.path)
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let uri: Uri = text.parse().map_err(|_| NotAnAddress::Malformed)?;
        let authority = uri.authority().ok_or(NotAnAddress::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(NotAnAddress::Secret);
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_this_machine(&host) => false,
            Some("http") => return Err(NotAnAddress::NotHttps),
            _ => return Err(NotAnAddress::Malformed),
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { tls, host, port, target })
    }

    /// Where a redirect from here leads; `None` if it is not followed: to
    /// anything but HTTPS, unless we were on this machine already.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        let next = if location.starts_with("//") {
            return None;
        } else if location.starts_with('/') {
            let target: Uri = location.parse().ok()?;
            Self { target: target.path_and_query()?.as_str().to_owned(), ..self.clone() }
        } else {
            Self::parse(location).ok()?
        };
        (next.tls || !self.tls).then_some(next)
    }

    /// Whether the token for `self` may be sent to `other`.
    pub(super) fn shares_secrets_with(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// For the `Host` header.
    pub(super) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_https_or_this_machine() {
        for (text, shown) in [
            ("https://hub.example", "https://hub.example"),
            ("https://Hub.Example:8443/mirror/", "https://hub.example:8443/mirror"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:80/x", "http://[::1]/x"),
        ] {
            assert_eq!(Base::parse(text).unwrap().to_text(), shown);
        }
        assert_eq!(Base::parse("http://hub.example"), Err(NotAnAddress::NotHttps));
        assert_eq!(Base::parse("http://127.0.0.1.example"), Err(NotAnAddress::NotHttps));
        assert_eq!(Base::parse("https://me:secret@hub.example"), Err(NotAnAddress::Secret));
        assert_eq!(Base::parse("https://hub.example/?a=b"), Err(NotAnAddress::Query));
        for text in ["hub.example", "ftp://hub.example", "", "https://", "/x"] {
            assert_eq!(Base::parse(text), Err(NotAnAddress::Malformed), "{text}");
        }
    }

    #[test]
    fn a_file_stands_below_its_repository_and_revision() {
        let base = Base::parse("https://hub.example/mirror").unwrap();
        let file = base.file("a/b", "main", "x.gguf");
        assert_eq!(file.target, "/mirror/a/b/resolve/main/x.gguf");
    }

    #[test]
    fn redirects_never_leave_tls_and_secrets_never_leave_their_host() {
        let at = |text: &str| Address::parse(text).unwrap();
        let hub = at("https://hub.example/a");
        let same = hub.redirected("/b?c=d").unwrap();
        assert_eq!(same.target, "/b?c=d");
        assert!(hub.shares_secrets_with(&same));
        let other = hub.redirected("https://cdn.example/x?signature=1").unwrap();
        assert!(!hub.shares_secrets_with(&other));
        assert!(!hub.shares_secrets_with(&hub.redirected("https://hub.example:444/").unwrap()));
        for away in ["http://hub.example/", "http://127.0.0.1/", "//cdn.example/x", "x", "ftp://a/"]
        {
            assert_eq!(hub.redirected(away), None, "{away}");
        }
        let local = at("http://127.0.0.1:1/a");
        assert!(local.redirected("http://127.0.0.1:2/").is_some());
        assert!(!local.shares_secrets_with(&local.redirected("http://127.0.0.1:2/").unwrap()));
        assert_eq!(local.redirected("http://hub.example/"), None);
    }
}
