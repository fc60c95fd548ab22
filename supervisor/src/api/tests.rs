//! Every route on a real server that has no engine.

use std::net::SocketAddr;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{self, Flags};
use crate::supervisor::start;
use crate::systemd::keeper::Keeper;

struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
    _state: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves from a state directory in which nothing was built.
async fn server() -> Server {
    let state = TempDir::new().unwrap();
    std::fs::write(state.path().join("empty.toml"), "").unwrap();
    let flags = Flags {
        config: Some(state.path().join("empty.toml")),
        state_dir: Some(state.path().to_owned()),
        root: Some(state.path().to_owned()),
        listen: None,
    };
    let settings = config::load(&flags, std::iter::empty()).unwrap();
    let (supervisor, handle, threads) = start(settings, Vec::new(), Keeper::none()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut snapshots = handle.snapshots();
    let task = tokio::spawn(async move {
        let serving = serve(
            listener,
            handle,
            threads.index,
            None,
            None,
            Settings::default(),
            std::future::pending(),
        );
        tokio::join!(supervisor.run(), serving);
    });
    let located = |snapshot: &Arc<crate::snapshot::Snapshot>| match &snapshot.engine.state {
        crate::snapshot::EngineState::Absent { reason } => !reason.is_empty(),
        _ => false,
    };
    snapshots.wait_for(located).await.unwrap();
    Server { address, task, _state: state }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Server {
    /// Sends one request with further headers, each ending its line.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn check(&self, method: &str, path: &str, body: &str, expected: &Expect) {
        let Answer { status, body, .. } = self.ask(method, path, "", body).await;
        // The directory is another one in every run.
        let state = self._state.path().display().to_string();
        expected.assert_eq(&format!("{status} {}", body.replace(&state, "STATE")));
    }
}

#[tokio::test]
async fn every_served_path_is_routed() {
    let server = server().await;
    for (method, path) in paths::SERVED {
        let answer = server.ask(method, path, "", "{}").await;
        // What nobody has is looked for and not found, like an embedder.
        let sought =
            ["answer_not_found", "no_embedder", "repository_not_found", "conversation_not_found"];
        let found = sought.iter().any(|code| answer.body.contains(code)) || answer.status != 404;
        assert!(found && answer.status != 405, "{method} {path}: {}", answer.body);
        let other = if method == "GET" { "POST" } else { "GET" };
        if paths::SERVED.contains(&(other, path)) {
            continue;
        }
        assert_eq!(server.ask(other, path, "", "").await.status, 405, "{other} {path}");
    }
}

#[tokio::test]
async fn paths_that_are_not_served() {
    let server = server().await;
    let unknown = expect![[
        r#"404 {"error":{"message":"nothing is served at /v1/chat/completion; did you mean POST /v1/chat/completions?","type":"invalid_request_error","param":null,"code":"unknown_route"}}"#
    ]];
    server.check("POST", "/v1/chat/completion", "{}", &unknown).await;
    let unknown = expect![[
        r#"404 {"error":"nothing is served at /api/chatt; did you mean POST /api/chat?","code":"unknown_route"}"#
    ]];
    server.check("POST", "/api/chatt", "{}", &unknown).await;
    let answer = server.ask("DELETE", "/api/chat", "", "").await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: POST, OPTIONS"), "{}", answer.head);
}

#[tokio::test]
async fn without_an_engine_requests_are_refused_and_told_why() {
    let server = server().await;
    let chat = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
    server.check("POST", "/v1/chat/completions", chat, &expect![[r#"503 {"error":{"message":"no engine can answer now: there is no engine in STATE/engines; build one with `engine-builder build MODEL`","type":"unavailable_error","param":null,"code":"engine_unavailable"}}"#]]).await;
    server.check("POST", "/api/chat", chat, &expect![[r#"503 {"error":"no engine can answer now: there is no engine in STATE/engines; build one with `engine-builder build MODEL`","code":"engine_unavailable"}"#]]).await;
    server.check("GET", "/health", "", &expect![[r#"503 {"error":{"code":503,"message":"there is no engine in STATE/engines; build one with `engine-builder build MODEL`","type":"unavailable_error"}}"#]]).await;
    for (path, body) in [("/v1/chat/completions", chat), ("/api/chat", chat)] {
        let answer = server.ask("POST", path, "", body).await;
        assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    }
    assert_eq!(server.ask("GET", "/ready", "", "").await.status, 503);
    let models = expect![[r#"200 {"object":"list","data":[]}"#]];
    server.check("GET", "/v1/models", "", &models).await;
    server.check("GET", "/api/tags", "", &expect![[r#"200 {"models":[]}"#]]).await;
    server.check("GET", "/api/ps", "", &expect![[r#"200 {"models":[]}"#]]).await;
}

#[tokio::test]
async fn the_front_door_tells_browsers_from_programs() {
    let server = server().await;
    for (method, body) in [("GET", "Ollama is running"), ("HEAD", "")] {
        let answer = server.ask(method, "/", "", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert!(answer.head.contains("content-length: 17"));
    }
    let page = server.ask("GET", "/", "accept: text/html,*/*;q=0.8\r\n", "").await;
    assert!(page.body.starts_with("<!doctype html>") || page.body.starts_with("<!DOCTYPE html>"));
    assert!(page.head.contains("content-security-policy: default-src 'none'"));
    for outside in ["=\"http", "=\"//", "<style", " style=", " onclick="] {
        assert!(!page.body.contains(outside), "the policy forbids {outside}");
    }
    for asset in ["/assets/page.css", "/assets/page.js", "/assets/build.js", "/assets/code.js"] {
        assert!(page.body.contains(asset), "the page asks for {asset}");
    }
}

#[tokio::test]
async fn foreign_names_and_foreign_pages_are_kept_out() {
    let server = server().await;
    let ask = async |headers: &str| server.ask("GET", "/v1/models", headers, "").await;
    assert_eq!(ask("host: evil.example\r\n").await.status, 403);
    assert_eq!(ask("origin: https://evil.example\r\n").await.status, 403);
    assert_eq!(ask("origin: null\r\n").await.status, 403);
    let local = ask("origin: http://localhost:3000\r\n").await;
    assert_eq!(local.status, 200);
    assert!(local.head.contains("access-control-allow-origin: http://localhost:3000"));
    let status = server.ask("GET", "/api/status", "origin: http://localhost:3000\r\n", "").await;
    assert!(!status.head.contains("access-control"), "only our own page reads it");
}

#[tokio::test]
async fn a_browser_may_ask_before_it_asks() {
    let server = server().await;
    let headers = "origin: vscode-webview://1\r\n\
                   access-control-request-method: POST\r\n\
                   access-control-request-headers: authorization, content-type\r\n";
    let answer = server.ask("OPTIONS", "/v1/chat/completions", headers, "").await;
    assert_eq!(answer.status, 204);
    for header in [
        "access-control-allow-origin: vscode-webview://1",
        "access-control-allow-headers: authorization, content-type",
        "access-control-allow-methods: GET, POST, OPTIONS",
    ] {
        assert!(answer.head.contains(header), "{}", answer.head);
    }
}

#[tokio::test]
async fn slashes_too_many_do_no_harm() {
    let server = server().await;
    for path in ["/v1//models", "//v1/models", "/v1/models/"] {
        assert_eq!(server.ask("GET", path, "", "").await.status, 200, "{path}");
    }
}
