//! A hub on this machine's loopback: it serves one file, and misbehaves as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) if_range: Option<String>,
    pub(crate) authorization: Option<String>,
}

/// What is done about one.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The file, or the part of it that was asked for, in this version.
    File(Arc<Vec<u8>>, &'static str),
    /// As a hub that knows nothing of parts.
    Whole(Arc<Vec<u8>>),
    /// The file, but the connection breaks after so many bytes.
    Cut(Arc<Vec<u8>>, &'static str, usize),
    /// The file's beginning, and then nothing for ever.
    Stuck(Arc<Vec<u8>>, &'static str, usize),
    /// These bytes, whatever they are.
    Raw(String),
    /// A status, and more lines of the head.
    Status(u16, String),
    Silence,
    /// Bytes for ever, without saying how many.
    Endless,
}

type Behaviour = Box<dyn FnMut(&Seen, usize) -> Answer + Send>;

/// The hub. Its threads end with the test's process.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers each request as `behaviour` says, which is also told how many
    /// requests there were before.
    pub(crate) fn new(behaviour: impl FnMut(&Seen, usize) -> Answer + Send + 'static) -> Self {
        Self::start(Box::new(behaviour), None)
    }

    /// The same, over TLS, with the certificate beside this file.
    pub(crate) fn with_tls(behaviour: impl FnMut(&Seen, usize) -> Answer + Send + 'static) -> Self {
        Self::start(Box::new(behaviour), Some(Arc::new(tls())))
    }

    fn start(behaviour: Behaviour, tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(behaviour));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, behaviour) = (Arc::clone(&log), Arc::clone(&behaviour));
                let tls = tls.clone();
                // A client that goes away is not our failure.
                thread::spawn(move || match tls {
                    None => drop(answer(stream, &log, &behaviour)),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        let stream = StreamOwned::new(connection, stream);
                        drop(answer(stream, &log, &behaviour));
                    }
                });
            }
        });
        Self { address, scheme, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn tls() -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("loopback-certificate.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("loopback-key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    config.with_single_cert(vec![certificate.unwrap()], key).unwrap()
}

fn answer(
    mut stream: impl Read + Write,
    log: &Mutex<Vec<Seen>>,
    behaviour: &Mutex<Behaviour>,
) -> std::io::Result<()> {
    let seen = read(&mut stream)?;
    let answer = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        let before = log.len() - 1;
        drop(log);
        behaviour.lock().unwrap()(&seen, before)
    };
    match answer {
        Answer::File(bytes, etag) => file(&mut stream, &seen, &bytes, etag, None),
        Answer::Cut(bytes, etag, after) => file(&mut stream, &seen, &bytes, etag, Some(after)),
        Answer::Stuck(bytes, etag, after) => {
            file(&mut stream, &seen, &bytes, etag, Some(after))?;
            wait()
        }
        Answer::Whole(bytes) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            stream.write_all(&bytes)
        }
        Answer::Raw(text) => stream.write_all(text.as_bytes()),
        Answer::Status(status, lines) => {
            write!(stream, "HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n{lines}\r\n")
        }
        Answer::Silence => wait(),
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[7; 65536])?;
            }
        }
    }
}

/// For as long as the test lives.
fn wait() -> std::io::Result<()> {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// The asked part of the file if its version is still the same, and the head.
fn file(
    stream: &mut impl Write,
    seen: &Seen,
    bytes: &[u8],
    etag: &str,
    only: Option<usize>,
) -> std::io::Result<()> {
    let fits = seen.if_range.as_deref().is_none_or(|version| version == etag);
    let length = bytes.len();
    let (begin, end, head) = match seen.range.filter(|_| fits) {
        Some((begin, end)) => {
            let end = end.min(length);
            let range = format!("Content-Range: bytes {begin}-{}/{length}\r\n", end - 1);
            (begin, end, format!("206 Partial Content\r\n{range}"))
        }
        None => (0, length, "200 OK\r\n".into()),
    };
    let size = end - begin;
    write!(stream, "HTTP/1.1 {head}ETag: {etag}\r\nX-Repo-Commit: {COMMIT}\r\n")?;
    write!(stream, "Content-Length: {size}\r\n\r\n")?;
    stream.write_all(&bytes[begin..end.min(begin + only.unwrap_or(size))])
}

/// The commit that the hub says it serves.
pub(crate) const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn read(stream: &mut impl Read) -> std::io::Result<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut seen = Seen { path, ..Seen::default() };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                seen.range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1));
            }
            "if-range" => seen.if_range = Some(value.to_owned()),
            "authorization" => seen.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(seen)
}
