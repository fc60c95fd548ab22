//! What git complains of, in words that say what to do. Pure.

/// Characters of git's own line that are shown.
const LONGEST: usize = 300;

/// Words in what git says, and what they mean. The first that fits counts.
const MEANINGS: [(&[&str], &str); 9] = [
    (
        &["git cannot be started: no such file"],
        "git is not installed here; `apt-get install git` does that",
    ),
    (
        &["could not resolve host", "unable to look up", "name or service not known"],
        "the name of its host is not known here; check it, or give the host's address",
    ),
    (
        &["ssl certificate", "certificate problem", "certificate verif", "signed certificate"],
        "its certificate is not trusted here; put the certificate of its authority into \
         /usr/local/share/ca-certificates and run update-ca-certificates",
    ),
    (
        &["host key verification failed"],
        "its host key is not known here; put it into .ssh/known_hosts of the server's user",
    ),
    (
        &["could not read username", "authentication failed", "permission denied (", "error: 403"],
        "it asks for a login; for https git reads one from .netrc in the home of the server's \
         user, for ssh its key there has to be allowed",
    ),
    (
        &["file too large", "signal 25", "out of memory", "signal 24"],
        "it is too large; `index.source_bytes` is the bound",
    ),
    (
        // A helper that is killed by a bound says nothing itself.
        &["invalid index-pack output"],
        "it is too large (`index.source_bytes` is the bound), or broken on its way",
    ),
    (
        &[
            "not found",
            "does not appear to be a git",
            "access denied",
            "not exported",
            "not valid: ",
        ],
        "there is no git repository at that URL, or it is not exported to this machine",
    ),
    (
        &[
            "connection refused",
            "failed to connect",
            "couldn't connect",
            "timed out",
            "unable to connect",
            "no route to host",
            "unreachable",
            "early eof",
            "hung up",
            "too slow",
        ],
        "its host does not answer; it is asked again in a while",
    ),
];

/// From all that git said to one line.
pub(super) fn in_words(said: &str) -> String {
    let line = decisive(said);
    let whole = said.to_lowercase();
    let fits = |words: &[&str]| words.iter().any(|word| whole.contains(word));
    match MEANINGS.iter().find(|(words, _)| fits(words)) {
        Some((_, meaning)) => format!("{meaning} (git: {line})"),
        None => format!("git: {line}"),
    }
}

/// The last line that git calls a failure, else the last that says anything.
fn decisive(said: &str) -> String {
    // A progress is written over and over in one line.
    let lines = || said.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let failure = lines().rfind(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    let line = failure.or_else(|| lines().next_back()).unwrap_or("it ended without a word");
    let plain = line.chars().filter(|c| !c.is_control());
    plain.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_becomes_what_to_do() {
        for (said, begins) in [
            (
                "fatal: unable to access 'https://x/a/': Could not resolve host: x",
                "the name of its host",
            ),
            (
                "fatal: unable to access 'https://x/a/': SSL certificate problem: self-signed",
                "its certificate is not trusted",
            ),
            (
                "fatal: could not read Username for 'https://x': terminal prompts disabled",
                "it asks for a login",
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://x/a/' not found",
                "there is no git",
            ),
            (
                "fatal: unable to connect to 127.0.0.1:\n127.0.0.1[0]: errno=Connection refused",
                "its host does not answer",
            ),
            (
                "fatal: remote error: access denied or repository not exported: /a",
                "there is no git",
            ),
            ("fatal: fetch-pack: invalid index-pack output", "it is too large ("),
            ("error: index-pack died of signal 25\nfatal: index-pack failed", "it is too large"),
            ("Receiving objects:  10%\rReceiving objects:  12%", "git: Receiving objects:  12%"),
            ("fatal: repository 'https://x/openssl/' not found", "there is no git"),
            ("", "git: it ended without a word"),
            (
                "stoker: git cannot be started: No such file or directory (os error 2); is it",
                "git is not installed here",
            ),
        ] {
            let words = in_words(said);
            assert!(words.starts_with(begins), "{said}: {words}");
        }
        let long = in_words(&format!("fatal: {}\u{1b}[31m", "x".repeat(10_000)));
        assert!(long.len() < 400 && !long.contains('\u{1b}'), "{long}");
    }
}
