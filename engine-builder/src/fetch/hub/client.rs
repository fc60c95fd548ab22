//! One request for some bytes of a file: connection, TLS, redirects, patience.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HOST, HeaderMap, IF_RANGE,
    LOCATION, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::token::Token;
use super::{Hub, HubError};
use crate::hash::Sha256Hex;

/// A hub redirects once or twice.
const MOST_REDIRECTS: usize = 5;

/// The longest that a hub may make us wait before we ask again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Asks one hub.
pub(super) struct Client<'a> {
    patience: Duration,
    token: Option<&'a Token>,
    tls: OnceLock<Result<TlsConnector, ()>>,
}

/// An answer that has some bytes of the file, or all.
pub(super) struct Reply {
    pub(super) host: String,
    /// Of the file.
    pub(super) length: u64,
    /// Whether these are the bytes that were asked for, and not all.
    pub(super) is_part: bool,
    pub(super) version: Version,
    /// Bytes that are still to come.
    left: u64,
    body: Incoming,
    patience: Duration,
}

/// What the hub says of the file's version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Two answers with the same one are of the same bytes.
    pub(super) validator: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) sha256: Option<Sha256Hex>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self { patience: hub.patience, token: hub.token.as_ref(), tls: OnceLock::new() }
    }

    /// The bytes of `range`, or all of the file; the hub may always answer with
    /// all. With `validator`, bytes of that version only.
    pub(super) async fn get(
        &self,
        at: &Address,
        range: Option<(u64, u64)>,
        validator: Option<&str>,
    ) -> Result<Reply, HubError> {
        let (mut address, mut said) = (at.clone(), Version::default());
        for _ in 0..=MOST_REDIRECTS {
            let host = address.host.clone();
            let response = self.ask(at, &address, range, validator).await?;
            said = said.or(response.headers());
            let nonsense = |what| HubError::Nonsense { host: host.clone(), what };
            if response.status().is_redirection() {
                let location = text(response.headers(), &LOCATION).unwrap_or_default();
                address = address
                    .redirected(location)
                    .ok_or_else(|| nonsense("redirects to where a file is not fetched from"))?;
                continue;
            }
            return self.reply(response, host, range, said);
        }
        let host = at.host.clone();
        Err(HubError::Nonsense { host, what: "redirects in a circle" })
    }

    fn reply(
        &self,
        response: Response<Incoming>,
        host: String,
        range: Option<(u64, u64)>,
        said: Version,
    ) -> Result<Reply, HubError> {
        let headers = response.headers();
        let nonsense = |what| HubError::Nonsense { host: host.clone(), what };
        // The last answer's own mark is the one that it will compare.
        let validator = text(headers, &ETAG).filter(|mark| mark.starts_with('"'));
        let version = Version { validator: validator.map(str::to_owned), ..said };
        let number = |name| text(headers, name).and_then(|value| value.parse().ok());
        let (left, length, is_part) = match response.status() {
            StatusCode::OK => {
                let length = number(&CONTENT_LENGTH)
                    .ok_or_else(|| nonsense("does not say how long the file is"))?;
                (length, length, false)
            }
            StatusCode::PARTIAL_CONTENT => {
                let (begin, end, length) = text(headers, &CONTENT_RANGE)
                    .and_then(content_range)
                    .ok_or_else(|| nonsense("does not say which bytes it sends"))?;
                if range.is_none_or(|asked| asked.0 != begin || asked.1.min(length) != end) {
                    return Err(nonsense("sends other bytes than were asked for"));
                }
                (end - begin, length, true)
            }
            status => {
                let wait = number(&RETRY_AFTER).map(Duration::from_secs);
                let wait = wait.map(|wait| wait.min(LONGEST_WAIT));
                return Err(HubError::Status { host, status: status.as_u16(), wait });
            }
        };
        let (body, patience) = (response.into_body(), self.patience);
        Ok(Reply { host, length, is_part, version, left, body, patience })
    }

    /// One request to one address. The token goes only to whom it is for.
    async fn ask(
        &self,
        origin: &Address,
        address: &Address,
        range: Option<(u64, u64)>,
        validator: Option<&str>,
    ) -> Result<Response<Incoming>, HubError> {
        let host = &address.host;
        let silent = |_| HubError::Silent { host: host.clone(), patience: self.patience };
        let connect = |source| HubError::Connect { host: host.clone(), source };
        let speak = |source| HubError::Speak { host: host.clone(), source };
        let stream = timeout(self.patience, self.connect(address)).await.map_err(silent)??;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(speak)?;
        // It ends with the answer; what it has to say, the answer says too.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::get(address.target.as_str())
            .header(HOST, address.authority())
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, concat!("stoker-engine-builder/", env!("CARGO_PKG_VERSION")));
        if let Some((begin, end)) = range {
            request = request.header(RANGE, format!("bytes={begin}-{}", end - 1));
        }
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
        if let Some(token) = self.token.filter(|_| origin.shares_secrets_with(address)) {
            request = request.header(AUTHORIZATION, token.header());
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| connect(io::Error::other(error)))?;
        timeout(self.patience, sender.send_request(request)).await.map_err(silent)?.map_err(speak)
    }

    async fn connect(&self, address: &Address) -> Result<Box<dyn Stream>, HubError> {
        let failed = |source| HubError::Connect { host: address.host.clone(), source };
        let target = (address.host.as_str(), address.port);
        let stream = TcpStream::connect(target).await.map_err(failed)?;
        if !address.tls {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.get_or_init(tls).as_ref().map_err(|()| HubError::NoRoots)?;
        let name = ServerName::try_from(address.host.clone())
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(Box::new(tls.connect(name, stream).await.map_err(failed)?))
    }
}

impl Reply {
    /// The next bytes; `None` at the end. Never more than were announced.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, HubError> {
        loop {
            let frame = timeout(self.patience, self.body.frame()).await.map_err(|_| {
                HubError::Silent { host: self.host.clone(), patience: self.patience }
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|source| HubError::Speak { host: self.host.clone(), source })?;
            let Ok(data) = frame.into_data() else { continue };
            let host = || self.host.clone();
            self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                HubError::Nonsense { host: host(), what: "sends more than it said" }
            })?;
            return Ok(Some(data));
        }
    }
}

impl Version {
    /// What a redirecting hub says of the file before somebody else sends it.
    fn or(self, headers: &HeaderMap) -> Self {
        let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
        let hash = text(headers, "x-linked-etag").map(|hash| hash.trim_matches('"').to_owned());
        Self {
            commit: self.commit.or_else(|| commit.map(str::to_owned)),
            sha256: self.sha256.or_else(|| Sha256Hex::try_from(hash?).ok()),
            validator: self.validator,
        }
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn text<N: hyper::header::AsHeaderName>(headers: &HeaderMap, name: N) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes 0-9/100` as beginning, end and length.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let (end, length) = (last.checked_add(1)?, length.parse().ok()?);
    (first < end && end <= length).then_some((first, end, length))
}

/// Whom the machine trusts. Read once, and only when TLS is spoken.
fn tls() -> Result<TlsConnector, ()> {
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be read are as good as not there.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(());
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_within_its_file_or_none() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0, 10, 100)));
        assert_eq!(content_range("bytes 99-99/100"), Some((99, 100, 100)));
        for text in [
            "bytes 0-9/*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes */10",
            "bytes 0-18446744073709551615/18446744073709551615",
            "0-9/100",
            "bytes -1-9/100",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
