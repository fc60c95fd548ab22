//! An answer as it comes: the head first, then the body, piece by piece.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;

use serde_json::Value;

use crate::client::{Headers, Reply};

/// An answer whose head was read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Headers,
    body: BufReader<Body>,
    last_event_id: Option<String>,
}

/// One thing in a stream of server-sent events.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A line that begins with a colon, without it.
    Comment(String),
    Data(Value),
    /// `data: [DONE]`.
    Done,
    /// The connection broke before the body's proper end.
    Cut,
}

/// A stream of server-sent events that was read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript(pub Vec<Event>);

impl Answer {
    pub(crate) fn read(stream: TcpStream) -> Self {
        let mut from = BufReader::new(stream);
        let mut line = String::new();
        from.read_line(&mut line).expect("the server answers");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
        let headers = Headers::read(&mut from);
        let framing = match (headers.get("transfer-encoding"), headers.number("content-length")) {
            (Some("chunked"), _) => Framing::Chunked { left: 0, over: false },
            (_, Some(length)) => Framing::Length(length),
            _ => Framing::UntilClose,
        };
        let body = BufReader::new(Body { from, framing });
        Self { status, headers, body, last_event_id: None }
    }

    /// Reads the rest.
    ///
    /// # Panics
    /// The answer is cut off.
    #[must_use]
    pub fn whole(mut self) -> Reply {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body).expect("the answer comes to its end");
        Reply { status: self.status, headers: self.headers, body }
    }

    /// The next event; `None` after a proper end.
    ///
    /// # Panics
    /// The framing of the events is wrong. An empty event is, because some
    /// clients take it for a document.
    pub fn next_event(&mut self) -> Option<Event> {
        let (mut event, mut id) = (None, None);
        loop {
            let line = match self.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    assert_eq!(event, None, "the last event has no end");
                    return None;
                }
                Err(_) => return Some(Event::Cut),
            };
            if line.is_empty() {
                self.last_event_id = id.or(self.last_event_id.take());
                return Some(event.expect("an event has data"));
            } else if let Some(comment) = line.strip_prefix(':') {
                assert_eq!(event, None, "a comment stands in an event");
                return Some(Event::Comment(comment.to_owned()));
            } else if let Some(given) = line.strip_prefix("id: ") {
                id = Some(given.to_owned());
            } else if line == "data: [DONE]" {
                event = Some(Event::Done);
            } else {
                let data = line.strip_prefix("data: ");
                let data = data.unwrap_or_else(|| panic!("not an event: {line:?}"));
                event = Some(Event::Data(serde_json::from_str(data).expect("data is JSON")));
            }
        }
    }

    /// The id of the last whole event that had one.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// The next document of an event, whatever comes between.
    ///
    /// # Panics
    /// There is none any more.
    pub fn next_data(&mut self) -> Value {
        loop {
            match self.next_event() {
                Some(Event::Comment(_)) => {}
                Some(Event::Data(data)) => return data,
                other => panic!("expected data, got {other:?}"),
            }
        }
    }

    /// Reads events until one carries text, so that the engine is at work.
    pub fn wait_for_text(&mut self) -> String {
        loop {
            let data = self.next_data();
            let choice = &data["choices"][0];
            let text = choice["delta"]["content"].as_str().or(choice["text"].as_str());
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                return text.to_owned();
            }
            assert!(data.get("error").is_none(), "{data}");
        }
    }

    /// Reads the events that are left.
    #[must_use]
    pub fn transcript(mut self) -> Transcript {
        let mut events = Vec::new();
        while let Some(event) = self.next_event() {
            let cut = event == Event::Cut;
            events.push(event);
            if cut {
                break;
            }
        }
        Transcript(events)
    }

    /// The documents of an answer with one on each line.
    ///
    /// # Panics
    /// A line is not JSON, or the answer is cut off.
    #[must_use]
    pub fn documents(mut self) -> Vec<Value> {
        let lines = std::iter::from_fn(|| self.next_line().expect("the answer comes to its end"));
        lines.map(|line| serde_json::from_str(&line).expect("a line is JSON")).collect()
    }

    /// A line without its end; `None` after the last.
    fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.body.read_line(&mut line)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        Ok((read > 0).then(|| line.to_owned()))
    }
}

impl Transcript {
    /// The documents of the events.
    pub fn data(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter_map(|event| match event {
            Event::Data(data) => Some(data),
            _ => None,
        })
    }

    /// The text of one choice.
    #[must_use]
    pub fn text(&self, index: u64) -> String {
        let choices = self.choices(index);
        choices.filter_map(|c| c["delta"]["content"].as_str().or(c["text"].as_str())).collect()
    }

    /// Why one choice ended.
    #[must_use]
    pub fn finish_reason(&self, index: u64) -> Option<&str> {
        self.choices(index).find_map(|choice| choice["finish_reason"].as_str())
    }

    /// The message of the error that ended the stream.
    #[must_use]
    pub fn error(&self) -> Option<&Value> {
        self.data().find_map(|data| data.get("error"))
    }

    /// Whether it ended as a finished answer does.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.last() == Some(&Event::Done)
    }

    fn choices(&self, index: u64) -> impl Iterator<Item = &Value> {
        let all = self.data().filter_map(|data| data["choices"].as_array()).flatten();
        all.filter(move |choice| choice["index"] == index)
    }
}

/// A body without its framing. Reading fails if the end does not come properly.
#[derive(Debug)]
struct Body {
    from: BufReader<TcpStream>,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked { left: u64, over: bool },
    UntilClose,
}

impl Body {
    /// The length of the next chunk; 0 ends the body.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        if line.trim().is_empty() {
            line.clear();
            self.from.read_line(&mut line)?;
        }
        u64::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::UnexpectedEof.into())
    }

    fn read_at_most(&mut self, buffer: &mut [u8], most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        match self.from.read(&mut buffer[..most])? {
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.framing {
            Framing::UntilClose => self.from.read(buffer),
            Framing::Length(0) | Framing::Chunked { over: true, .. } => Ok(0),
            Framing::Length(left) => {
                let read = self.read_at_most(buffer, left)?;
                self.framing = Framing::Length(left - read as u64);
                Ok(read)
            }
            Framing::Chunked { left: 0, .. } => {
                let left = self.next_chunk()?;
                self.framing = Framing::Chunked { left, over: left == 0 };
                self.read(buffer)
            }
            Framing::Chunked { left, .. } => {
                let read = self.read_at_most(buffer, left)?;
                self.framing = Framing::Chunked { left: left - read as u64, over: false };
                Ok(read)
            }
        }
    }
}
