//! Fetching from a hub that is slow, wrong, gone or hostile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::hub_model::{FILE, ID, Known, REPOSITORY, REVISION, gguf, put};
use crate::hub_server::{Answer, COMMIT, Seen, Server};
use crate::place::{Ended, Place};

const V1: &str = "\"version-1\"";
const V2: &str = "\"version-2\"";

/// What the builder fetches with one request.
const PART: usize = 32 * 1024 * 1024;

/// Long enough for the slowest machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A catalogue with a model whose file is `content`.
struct Model {
    place: Place,
    content: Arc<Vec<u8>>,
}

fn model(content: Vec<u8>, known: Known) -> Model {
    let place = Place::new();
    put(&place, &content, known);
    Model { place, content: Arc::new(content) }
}

/// A file of a little more than two parts.
fn large() -> Vec<u8> {
    let mut bytes = gguf();
    let fill = (0..2 * PART + 12_345).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[2]);
    bytes.extend(fill);
    bytes
}

impl Model {
    fn command(&self, hubs: &[&Server], extra: &[&str]) -> Command {
        let mut command = self.place.command(&[&["fetch", ID], extra].concat());
        let hubs: Vec<String> = hubs.iter().map(|hub| hub.url()).collect();
        command.env("STOKER_HUB", hubs.join(",")).env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    fn fetch(&self, hubs: &[&Server], extra: &[&str]) -> Ended {
        Ended::from(self.command(hubs, extra).output().unwrap())
    }

    #[track_caller]
    fn arrives(&self, hubs: &[&Server]) -> Ended {
        let ended = self.fetch(hubs, &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(fs::read(self.cached(FILE)).unwrap() == *self.content);
        assert_eq!(self.cache(), [FILE]);
        ended
    }

    fn cached(&self, name: &str) -> PathBuf {
        self.place.path("cache/stoker/models").join(ID).join("gguf").join(name)
    }

    fn cache(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cached("")).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A hub that has the file.
    fn hub(&self) -> Server {
        let content = Arc::clone(&self.content);
        Server::new(move |_, _| Answer::File(Arc::clone(&content), V1))
    }
}

#[test]
fn a_file_comes_from_its_pinned_revision() {
    let model = model(gguf(), Known::Yes);
    let hub = model.hub();
    let ended = model.arrives(&[&hub]);
    assert!(ended.stdout.contains("fetched and checked"), "{ended:?}");
    let path = format!("/{REPOSITORY}/resolve/{REVISION}/{FILE}");
    assert!(hub.seen().iter().all(|seen| seen.path == path), "{:?}", hub.seen());
}

#[test]
fn a_revision_and_hash_that_nobody_knew_are_learnt_and_a_later_difference_is_an_error() {
    let mut content = gguf();
    let learning = model(content.clone(), Known::No);
    let hub = learning.hub();
    learning.arrives(&[&hub]);
    assert_eq!(hub.seen()[0].path, format!("/{REPOSITORY}/resolve/main/{FILE}"));
    *content.last_mut().unwrap() ^= 1;
    let content = Arc::new(content);
    let other = Server::new(move |_, _| Answer::File(Arc::clone(&content), V2));
    fs::remove_file(learning.cached(FILE)).unwrap();
    let ended = learning.fetch(&[&other], &[]);
    ended.failed(5, &["sent a file with the sha256 ", ", the first fetch found "]);
    assert_eq!(other.seen()[0].path, format!("/{REPOSITORY}/resolve/{COMMIT}/{FILE}"));
    assert!(learning.cache().is_empty());
}

#[test]
fn what_the_hub_itself_announces_is_compared_too() {
    let model = model(gguf(), Known::No);
    let content = Arc::clone(&model.content);
    let wrong = "0".repeat(64);
    let hub = Server::new(move |seen, _| match seen.path.as_str() {
        "/elsewhere" => Answer::File(Arc::clone(&content), V1),
        _ => Answer::Status(302, format!("X-Linked-Etag: \"{wrong}\"\r\nLocation: /elsewhere\r\n")),
    });
    model.fetch(&[&hub], &[]).failed(5, &["sha256 ", ", the hub said 0000"]);
    assert!(!model.place.path("state/pins").exists());
}

#[test]
fn wrong_bytes_are_refused_and_the_next_mirror_is_asked() {
    let model = model(gguf(), Known::Yes);
    let mut wrong = gguf();
    *wrong.last_mut().unwrap() ^= 1;
    let wrong = Arc::new(wrong);
    let bad = Server::new(move |_, _| Answer::File(Arc::clone(&wrong), V1));
    model
        .fetch(&[&bad], &[])
        .failed(5, &["127.0.0.1 sent a file with the sha256 ", ", the catalogue says "]);
    assert!(model.cache().is_empty());
    let good = model.hub();
    let ended = model.arrives(&[&bad, &good]);
    assert!(ended.stderr.contains("; asking http://127.0.0.1:"), "{ended:?}");
}

#[test]
fn sizes_that_cannot_be_right_are_refused_before_anything_is_written() {
    let model = model(gguf(), Known::Yes);
    let long = Server::new(|_, _| {
        let range = "Content-Range: bytes 0-0/99999999999\r\nContent-Length: 1\r\n";
        Answer::Raw(format!("HTTP/1.1 206 Part\r\nETag: {V1}\r\n{range}\r\nx"))
    });
    model
        .fetch(&[&long], &[])
        .failed(5, &["says that it has 99999999999 bytes, the catalogue says"]);
    let endless = Server::new(|_, _| Answer::Endless);
    model.fetch(&[&endless], &[]).failed(5, &["does not say how long the file is"]);
    let other = Server::new(|_, _| {
        let range = "Content-Range: bytes 5-9/20\r\nContent-Length: 5\r\n";
        Answer::Raw(format!("HTTP/1.1 206 Part\r\n{range}\r\n12345"))
    });
    model.fetch(&[&other], &[]).failed(5, &["sends other bytes than were asked for"]);
    let noise = Server::new(|_, _| Answer::Raw("SSH-2.0-hello\r\n".into()));
    model.fetch(&[&noise], &[]).failed(5, &["speak to 127.0.0.1"]);
    assert!(model.cache().is_empty());
}

#[test]
fn a_hub_without_parts_sends_the_file_in_one_piece() {
    let model = model(gguf(), Known::Yes);
    let content = Arc::clone(&model.content);
    let hub = Server::new(move |_, _| Answer::Whole(Arc::clone(&content)));
    model.arrives(&[&hub]);
}

#[test]
fn a_connection_that_breaks_goes_on_with_the_next_byte() {
    let model = model(gguf(), Known::Yes);
    let content = Arc::clone(&model.content);
    let hub = Server::new(move |_, before| match before {
        1 => Answer::Cut(Arc::clone(&content), V1, 100),
        2 => Answer::Cut(Arc::clone(&content), V1, 0),
        _ => Answer::File(Arc::clone(&content), V1),
    });
    model.arrives(&[&hub]);
    let asked: Vec<_> = hub.seen().iter().map(|seen| seen.range.unwrap().0).collect();
    assert_eq!(asked, [0, 0, 100, 100]);
    assert!(hub.seen()[1..].iter().all(|seen| seen.if_range.as_deref() == Some(V1)));
}

#[test]
fn refusals_have_their_own_code_and_say_what_to_do() {
    let model = model(gguf(), Known::Yes);
    let status = |status| Server::new(move |_, _| Answer::Status(status, String::new()));
    model
        .fetch(&[&status(401)], &[])
        .failed(14, &["127.0.0.1 says 401: it wants a token", "--token-file"]);
    model.fetch(&[&status(403)], &[]).failed(14, &["says 403", "terms were not accepted"]);
    model.fetch(&[&status(404)], &[]).failed(5, &["says 404: it has no such file"]);
    let busy = status(503);
    let told = "without a network, bring small/gguf/small.gguf (";
    model.fetch(&[&busy], &[]).failed(5, &[told, "127.0.0.1 says 503"]);
    assert_eq!(busy.seen().len(), 5);
}

#[test]
fn a_hub_that_is_busy_for_a_while_is_waited_for() {
    let model = model(gguf(), Known::Yes);
    let content = Arc::clone(&model.content);
    let hub = Server::new(move |_, before| match before {
        0 => Answer::Status(429, "Retry-After: 0\r\n".into()),
        1 => Answer::Status(500, String::new()),
        3 => Answer::Status(502, String::new()),
        _ => Answer::File(Arc::clone(&content), V1),
    });
    model.arrives(&[&hub]);
}

#[test]
fn silence_has_an_end() {
    let model = model(gguf(), Known::Yes);
    let content = Arc::clone(&model.content);
    let hub = Server::new(move |_, before| match before {
        0 => Answer::Silence,
        2 => Answer::Stuck(Arc::clone(&content), V1, 50),
        _ => Answer::File(Arc::clone(&content), V1),
    });
    let ended = model.fetch(&[&hub], &["--hub-timeout", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches("was silent for 1s; trying again").count(), 2, "{ended:?}");
    assert_eq!(hub.seen()[3].range.unwrap().0, 50);
}

#[test]
fn without_a_network_it_is_said_what_to_bring() {
    let model = model(gguf(), Known::Yes);
    let told = ["bring small/gguf/small.gguf (", "sha256 ", "use --from DIR", "fetch --list small"];
    model.fetch(&[], &["--offline"]).failed(13, &told);
    model.fetch(&[], &["--offline"]).failed(13, &["there is no small.gguf here"]);
    let mut nobody = model.command(&[], &[]);
    // Nothing listens on the port for TCP multiplexing.
    nobody.env("STOKER_HUB", "http://127.0.0.1:1");
    let ended = Ended::from(nobody.output().unwrap());
    ended.failed(5, &[&told[..], &["connect to 127.0.0.1: Connection refused"]].concat());
    let build = Ended::from(model.place.command(&["build", ID, "--offline"]).output().unwrap());
    assert!([2, 4, 13].contains(&build.code.unwrap()), "{build:?}");
}

#[test]
fn addresses_that_cannot_be_trusted_are_refused_without_being_repeated() {
    let place = Place::new();
    for (address, why) in [
        ("http://hub.example", "is not https"),
        ("https://me:hunter2@hub.example", "use --token-file"),
        ("nonsense", "is not an address"),
    ] {
        let ended = place.run(&["fetch", "qwen3:4b", "--hub", address]);
        ended.failed(2, &["the address for --hub ", why]);
        assert!(!ended.stderr.contains("hunter2"));
    }
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_never_shown() {
    let model = model(gguf(), Known::Yes);
    let (content, other) = (Arc::clone(&model.content), model.hub());
    let elsewhere = other.url();
    let hub = Server::new(move |seen, _| match seen.path.as_str() {
        "/here" => Answer::Status(307, format!("Location: {elsewhere}/signed?secret=1\r\n")),
        _ => {
            let _ = &content;
            Answer::Status(302, "Location: /here\r\n".into())
        }
    });
    let file = model.place.file("token", b"hf_hunter2\n");
    let token = ["--token-file", file.to_str().unwrap(), "--format", "json"];
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    model.fetch(&[&hub], &token).failed(2, &["can be read by others (mode 644); chmod 600 it"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = model.fetch(&[&hub], &token);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let with_token = |seen: &Seen| seen.authorization.as_deref() == Some("Bearer hf_hunter2");
    assert!(hub.seen().iter().all(with_token), "{:?}", hub.seen());
    assert!(!other.seen().is_empty());
    assert!(other.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", other.seen());
    let denied = Server::new(|_, _| Answer::Status(403, String::new()));
    fs::remove_file(model.cached(FILE)).unwrap();
    let refused = model.fetch(&[&denied], &token);
    for ended in [&ended, &refused] {
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!all.contains("hunter2") && !all.contains("secret=1"), "{all}");
    }
    // From systemd, without being named.
    let mut command = model.command(&[&hub], &[]);
    fs::rename(&file, model.place.path("hub-token")).unwrap();
    command.env("CREDENTIALS_DIRECTORY", model.place.dir.path());
    assert_eq!(Ended::from(command.output().unwrap()).code, Some(0));
    assert!(with_token(hub.seen().last().unwrap()));
}

#[test]
fn a_hub_is_believed_over_tls_only_if_the_machine_trusts_its_certificate() {
    let model = model(gguf(), Known::Yes);
    let content = Arc::clone(&model.content);
    let hub = Server::with_tls(move |_, _| Answer::File(Arc::clone(&content), V1));
    let certificate =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builder/loopback-certificate.pem");
    let with_roots = |roots: &Path| {
        let mut command = model.command(&[&hub], &[]);
        command.env("SSL_CERT_FILE", roots).env("SSL_CERT_DIR", model.place.path("nothing"));
        Ended::from(command.output().unwrap())
    };
    with_roots(&model.place.path("nowhere")).failed(5, &["this machine trusts no certificates"]);
    assert!(hub.seen().is_empty());
    assert_eq!(with_roots(&certificate).code, Some(0));
    // The same certificate, for a name that it is not for.
    let mut command = model.command(&[&hub], &[]);
    fs::remove_file(model.cached(FILE)).unwrap();
    let other = hub.url().replace("127.0.0.1", "localhost");
    command.env("STOKER_HUB", other).env("SSL_CERT_FILE", &certificate);
    let seen = hub.seen().len();
    Ended::from(command.output().unwrap())
        .failed(5, &["connect to localhost: invalid peer certificate"]);
    assert_eq!(hub.seen().len(), seen);
}

#[test]
fn a_redirect_away_from_this_machine_without_tls_is_not_followed() {
    let model = model(gguf(), Known::Yes);
    for (to, why) in [
        ("http://hub.example/x", "redirects to where a file is not fetched from"),
        ("/round", "redirects in a circle"),
    ] {
        let hub = Server::new(move |_, _| Answer::Status(302, format!("Location: {to}\r\n")));
        model.fetch(&[&hub], &[]).failed(5, &[why]);
    }
}

/// A hub that sends the first part and then nothing, until it is let go.
fn stuck_hub(content: &Arc<Vec<u8>>, version: &'static str) -> (Server, Arc<AtomicBool>) {
    let (content, free) = (Arc::clone(content), Arc::new(AtomicBool::new(false)));
    let is_free = Arc::clone(&free);
    let hub = Server::new(move |seen, _| {
        let is_first_part = seen.range.is_some_and(|range| range.0 < PART);
        if is_first_part || is_free.load(Ordering::Relaxed) {
            Answer::File(Arc::clone(&content), version)
        } else {
            Answer::Stuck(Arc::clone(&content), version, 1000)
        }
    });
    (hub, free)
}

/// Begins a fetch and kills it once its first part is written down.
fn kill_after_the_first_part(model: &Model, hub: &Server) {
    let mut command = model.command(&[hub], &[]);
    let mut builder = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let journal = model.cached(&format!("{FILE}.part.json"));
    while !fs::read_to_string(&journal).is_ok_and(|text| text.contains("[0]")) {
        assert!(Instant::now() < deadline, "no part was written down");
        assert_eq!(builder.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(5));
    }
    builder.kill().unwrap();
    builder.wait().unwrap();
}

#[test]
fn a_fetch_that_is_killed_goes_on_where_it_was_and_takes_the_disk_once() {
    let model = model(large(), Known::Yes);
    let (hub, free) = stuck_hub(&model.content, V1);
    kill_after_the_first_part(&model, &hub);
    assert!(!model.cached(FILE).exists());
    let part = model.cached(&format!("{FILE}.part")).metadata().unwrap();
    assert!(part.blocks() * 512 <= part.len() + 4096, "{part:?}");
    assert_eq!(part.len(), model.content.len() as u64);
    free.store(true, Ordering::Relaxed);
    let before = hub.seen().len();
    let ended = model.arrives(&[&hub]);
    assert!(ended.stderr.contains("going on after 33554432 of "), "{ended:?}");
    let asked: Vec<_> = hub.seen()[before..].iter().map(|seen| seen.range.unwrap()).collect();
    assert_eq!(asked[0], (0, 1));
    assert!(asked[1..].iter().all(|range| range.0 >= PART), "{asked:?}");
}

#[test]
fn a_file_that_changed_meanwhile_begins_again() {
    let model = model(large(), Known::Yes);
    let (old, _) = stuck_hub(&model.content, V1);
    kill_after_the_first_part(&model, &old);
    let content = Arc::clone(&model.content);
    let hub = Server::new(move |_, _| Answer::File(Arc::clone(&content), V2));
    let ended = model.arrives(&[&hub]);
    assert!(!ended.stderr.contains("going on after"), "{ended:?}");
}

#[test]
fn a_half_written_file_is_not_trusted_whatever_its_journal_says() {
    let model = model(large(), Known::Yes);
    let (hub, free) = stuck_hub(&model.content, V1);
    kill_after_the_first_part(&model, &hub);
    free.store(true, Ordering::Relaxed);
    // As if the disk had lost what it had promised to keep.
    let part = model.cached(&format!("{FILE}.part"));
    let mut bytes = fs::read(&part).unwrap();
    bytes[5000..9000].fill(0);
    fs::write(&part, bytes).unwrap();
    let ended = model.arrives(&[&hub]);
    assert!(ended.stderr.contains("; beginning again"), "{ended:?}");
}

#[test]
fn an_interrupted_fetch_ends_at_once_and_keeps_its_parts() {
    let model = model(large(), Known::Yes);
    let (hub, free) = stuck_hub(&model.content, V1);
    let mut command = model.command(&[&hub], &[]);
    let builder = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !model.cached(&format!("{FILE}.part.json")).exists() {
        assert!(Instant::now() < deadline, "no part was written down");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(builder.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    Ended::from(builder.wait_with_output().unwrap()).failed(130, &["interrupted"]);
    free.store(true, Ordering::Relaxed);
    assert!(model.arrives(&[&hub]).stderr.contains("going on after"));
}
