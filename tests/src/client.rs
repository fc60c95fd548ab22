//! A client that speaks plain HTTP/1.1 over one connection for each request,
//! so that a test decides about every byte and every socket.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::Value;
use tokio::net::TcpSocket;

use crate::answer::Answer;
use crate::patience::LIMIT;

/// Somebody who asks.
#[derive(Debug, Clone)]
pub struct Client {
    server: SocketAddr,
    /// Address that the server sees.
    from: Ipv4Addr,
    key: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// Header fields; names in lower case.
#[derive(Debug, Clone, Default)]
pub struct Headers(Vec<(String, String)>);

impl Client {
    #[must_use]
    pub fn new(server: SocketAddr) -> Self {
        Self { server, from: Ipv4Addr::LOCALHOST, key: None }
    }

    /// The same, from 127.0.0.`last`.
    #[must_use]
    pub fn from_host(self, last: u8) -> Self {
        Self { from: Ipv4Addr::new(127, 0, 0, last), ..self }
    }

    /// The same with an API key.
    #[must_use]
    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// A connection on which nothing was sent yet.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        self.try_connect().unwrap_or_else(|error| panic!("connect to {}: {error}", self.server))
    }

    /// The same, where refusal is to be expected.
    ///
    /// # Errors
    /// Nobody listens, or there are no more descriptors.
    pub fn try_connect(&self) -> io::Result<TcpStream> {
        let stream = match self.from {
            Ipv4Addr::LOCALHOST => TcpStream::connect(self.server)?,
            from => connect_from(from, self.server)?,
        };
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").whole()
    }

    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// A body that need not be JSON.
    #[must_use]
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Reply {
        self.send("POST", path, &[], body).whole()
    }

    /// Sends a request and reads the answer's head; the body comes when it is
    /// asked for.
    #[must_use]
    pub fn stream(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body.to_string().as_bytes())
    }

    /// Sends a whole request, with further headers, and reads the answer's head.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = self.head(method, path, headers, body.len());
        stream.write_all(head.as_bytes()).expect("the server takes a request's head");
        // A server that refuses a body early may close before it has it all.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    /// Announces a body of `length` bytes and sends only its beginning.
    ///
    /// # Panics
    /// The server does not take it.
    #[must_use]
    pub fn send_part(&self, path: &str, beginning: &[u8], length: usize) -> Answer {
        let mut stream = self.connect();
        let head = self.head("POST", path, &[], length);
        stream.write_all(head.as_bytes()).expect("the server takes a request's head");
        stream.write_all(beginning).expect("the server takes a body's beginning");
        Answer::read(stream)
    }

    /// Sends a body whose length is not announced; `chunks` has its framing.
    #[must_use]
    pub fn send_chunks(&self, path: &str, chunks: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = self.head("POST", path, &[("transfer-encoding", "chunked")], 0);
        let head = head.replace("content-length: 0\r\n", "");
        stream.write_all(head.as_bytes()).expect("the server takes a request's head");
        // A server that refuses a body early may close before it has it all.
        let _ = stream.write_all(chunks);
        Answer::read(stream)
    }

    /// The head of a request with a body of `length` bytes.
    #[must_use]
    pub fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: usize,
    ) -> String {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n",
            self.server
        );
        let key = self.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n"));
        head.push_str(key.as_deref().unwrap_or_default());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

/// The standard library cannot choose its own end of a connection; tokio can.
fn connect_from(from: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(server).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

impl Reply {
    /// # Panics
    /// The body is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    /// # Panics
    /// The body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.text()))
    }

    /// The JSON of an answer that must be good.
    ///
    /// # Panics
    /// The status is not 200.
    #[must_use]
    pub fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The `error` object of an OpenAI refusal with this status.
    ///
    /// # Panics
    /// The status is another one, or the body has another shape.
    #[must_use]
    pub fn refusal(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        error
    }
}

impl Headers {
    /// Reads up to the empty line.
    pub(crate) fn read(from: &mut BufReader<TcpStream>) -> Self {
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line).expect("a head is read to its end");
            let line = line.trim_end();
            if line.is_empty() {
                return Self(headers);
            }
            let (name, value) = line.split_once(':').expect("a header line has a colon");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A header that is a whole number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}
