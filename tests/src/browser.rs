//! A real browser without a screen, driven as WebDriver has it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::patience::until;

/// Chromium with one page, through chromedriver.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    client: Client,
    /// `/session/…`
    session: String,
    _place: TempDir,
}

/// What the page is looked at on.
#[derive(Debug, Clone, Copy)]
pub enum Screen {
    Desk,
    /// 360 points wide, as small phones are.
    Phone,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Panics
    /// It is not installed.
    #[must_use]
    pub fn start(screen: Screen) -> Self {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let log = place.path().join("log");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // Where profiles go, which outlive a driver that is killed.
            .env("TMPDIR", place.path())
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("a fresh directory takes a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts; apt-get install chromium chromium-driver installs it");
        let port = until("chromedriver says its port", || {
            if let Some(status) = driver.try_wait().expect("a child can be waited for") {
                panic!("chromedriver ended with {status}");
            }
            let said = fs::read_to_string(&log).unwrap_or_default();
            said.split("started successfully on port ").nth(1)?.split('.').next()?.parse().ok()
        });
        let client = Client::new(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut browser = Self { driver, client, session: String::new(), _place: place };
        let session = browser.ask("", &capabilities(screen));
        let id = session["sessionId"].as_str().expect("a new session has an id");
        browser.session = format!("/{id}");
        browser
    }

    /// Loads a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.ask("/url", &json!({"url": url}));
    }

    /// The value of a JavaScript expression in the page.
    #[must_use]
    pub fn evaluate(&self, expression: &str) -> Value {
        self.ask("/execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// What a person can read on the page.
    #[must_use]
    pub fn text(&self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Errors and warnings that the page caused since it was asked last.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.ask("/se/log", &json!({"type": "browser"}));
        entries.as_array().into_iter().flatten().map(ToString::to_string).collect()
    }

    /// Addresses of everything that the page asked for since it was asked last.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let entries = self.ask("/se/log", &json!({"type": "performance"}));
        let events = entries.as_array().into_iter().flatten().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            (event["method"] == "Network.requestWillBeSent")
                .then(|| event["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        events.collect()
    }

    /// # Panics
    /// The browser cannot do it.
    fn ask(&self, what: &str, body: &Value) -> Value {
        let reply = self.client.post(&format!("/session{}{what}", self.session), body);
        assert_eq!(reply.status, 200, "the browser cannot do {what} {body}: {}", reply.text());
        reply.json()["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Chromium ends with its session; without the driver it would stay.
            let path = format!("/session{}", self.session);
            let _ = self.client.send("DELETE", &path, &[], b"").whole();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn capabilities(screen: Screen) -> Value {
    let mut options = json!({
        // Containers have a small /dev/shm, and root has no sandbox.
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    if let Screen::Phone = screen {
        let metrics = json!({"width": 360, "height": 640, "pixelRatio": 2.0});
        options["mobileEmulation"] = json!({"deviceMetrics": metrics});
    }
    let wanted = json!({
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    });
    json!({"capabilities": {"alwaysMatch": wanted}})
}
