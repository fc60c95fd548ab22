//! From tokens to text that may be shown: whole UTF-8 characters only, and
//! never any part of a stop string.
//!
//! What [`TextStream::push`] returns depends on the tokens pushed so far and on
//! nothing else, so feeding an answer's old tokens again brings it back to the
//! state in which it was interrupted.

/// Text that follows from the tokens pushed so far.
#[derive(Debug)]
pub struct TextStream {
    stops: Vec<String>,
    /// Bytes that may still become part of a character or of a stop string.
    held: Vec<u8>,
    stopped: bool,
}

/// What a token brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Text that is final; may be empty.
    Text(String),
    /// Text before the stop string that was met, and that string. The end.
    Stopped { text: String, stop: String },
}

impl TextStream {
    /// Empty stop strings are ignored.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: Vec::new(), stopped: false }
    }

    /// Takes the bytes of the next token.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        self.held.extend_from_slice(bytes);
        if self.stopped {
            return Progress::Text(String::new());
        }
        if let Some((at, stop)) = self.first_stop() {
            self.stopped = true;
            let text = String::from_utf8_lossy(&self.held[..at]).into_owned();
            self.held.clear();
            return Progress::Stopped { text, stop };
        }
        let ready = self.held.len() - self.bytes_of_partial_stop();
        let ready = whole_characters(&self.held[..ready]);
        Progress::Text(self.take(ready))
    }

    /// The rest, when no more tokens come. An unfinished character becomes
    /// U+FFFD; an unfinished stop string was none.
    pub fn finish(&mut self) -> String {
        self.take(self.held.len())
    }

    fn take(&mut self, length: usize) -> String {
        let text = String::from_utf8_lossy(&self.held[..length]).into_owned();
        self.held.drain(..length);
        text
    }

    /// The stop string that begins first; of those that begin together, the longest.
    fn first_stop(&self) -> Option<(usize, String)> {
        self.stops
            .iter()
            .filter_map(|stop| Some((find(&self.held, stop.as_bytes())?, stop)))
            .min_by_key(|(at, stop)| (*at, std::cmp::Reverse(stop.len())))
            .map(|(at, stop)| (at, stop.clone()))
    }

    /// Length of the longest end of `held` that is the beginning of a stop string.
    fn bytes_of_partial_stop(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| {
                let stop = stop.as_bytes();
                let longest = self.held.len().min(stop.len() - 1);
                (1..=longest).rev().find(|&n| self.held.ends_with(&stop[..n])).unwrap_or(0)
            })
            .max()
            .unwrap_or(0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Length of `bytes` without a last character that is not complete yet. Bytes
/// that can never become a character count as complete.
fn whole_characters(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            Err(error) => {
                start += error.valid_up_to();
                match error.error_len() {
                    None => return start,
                    Some(invalid) => start += invalid,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut stream = TextStream::new(stops.iter().map(ToString::to_string).collect());
        let mut shown = Vec::new();
        for piece in pieces {
            match stream.push(piece) {
                Progress::Text(text) => shown.push(text),
                Progress::Stopped { text, stop } => {
                    shown.push(text);
                    return (shown, Some(stop));
                }
            }
        }
        shown.push(stream.finish());
        (shown, None)
    }

    #[test]
    fn a_character_is_shown_when_it_is_whole() {
        let (shown, _) = run(&[], &[b"a\xE2", b"\x82", b"\xACb"]);
        assert_eq!(shown, ["a", "", "€b", ""]);
    }

    #[test]
    fn bytes_that_are_no_character_do_not_hold_up_the_rest() {
        let (shown, _) = run(&[], &[b"\xFFa", b"\xE2\x82"]);
        assert_eq!(shown, ["\u{FFFD}a", "", "\u{FFFD}"]);
    }

    #[test]
    fn a_stop_string_is_never_half_shown() {
        let (shown, stop) = run(&["</end>"], &[b"x <", b"/e", b"nd> y"]);
        assert_eq!((shown.concat().as_str(), stop.as_deref()), ("x ", Some("</end>")));
        assert_eq!(shown, ["x ", "", ""]);
    }

    #[test]
    fn what_only_looked_like_a_stop_is_shown() {
        let (shown, stop) = run(&["</end>"], &[b"x </e", b"lse"]);
        assert_eq!((shown.concat().as_str(), stop), ("x </else", None));
    }

    #[test]
    fn the_stop_that_begins_first_wins() {
        let (shown, stop) = run(&["cd", "bcd"], &[b"abcd"]);
        assert_eq!((shown.concat().as_str(), stop.as_deref()), ("a", Some("bcd")));
    }

    proptest! {
        #[test]
        fn shown_text_is_all_text_before_the_first_stop(
            bytes in prop::collection::vec(prop::sample::select(b"ab<>/\xE2\x82\xAC".to_vec()), 0..60),
            cuts in prop::collection::vec(1usize..5, 1..60),
            stops in prop::collection::vec("[ab<>]{1,4}", 0..3),
        ) {
            let stop_refs: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            let (shown, stop) = run(&stop_refs, &pieces);
            let shown = shown.concat();
            match stop {
                None => prop_assert_eq!(shown, String::from_utf8_lossy(&bytes).into_owned()),
                Some(stop) => {
                    let at = find(&bytes, stop.as_bytes()).unwrap();
                    prop_assert!(shown.len() <= String::from_utf8_lossy(&bytes[..at]).len());
                    prop_assert!(!stops.iter().any(|stop| shown.contains(stop.as_str())));
                }
            }
        }
    }
}
