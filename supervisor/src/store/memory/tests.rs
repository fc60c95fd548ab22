//! What is remembered, and that what is forgotten is gone from the disk.

use tempfile::TempDir;

use super::*;

fn settings(dir: &TempDir) -> Settings {
    let database = dir.path().join("memory.db");
    Settings { database, kept: Duration::from_secs(1000), bytes: 1 << 20 }
}

fn link(number: u8) -> Link {
    Link([number; 16])
}

fn addition(block: &str, repository: &str) -> Addition {
    let items = format!(r#"[{{"repository":"{repository}","tokens":3}}]"#);
    Addition { asked: "[]".into(), block: block.into(), items }
}

fn on_disk(settings: &Settings, text: &str) -> bool {
    ["", "-wal", "-shm"].iter().any(|suffix| {
        let mut path = settings.database.clone().into_os_string();
        path.push(suffix);
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[tokio::test]
async fn what_was_added_is_there_for_its_owner_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (memory, thread) = start(settings(&dir)).unwrap();
    memory.add("a", link(1), addition("old", "r")).await.unwrap();
    memory.add("a", link(1), addition("one", "r")).await.unwrap();
    memory.add("a", link(2), addition("two", "r")).await.unwrap();
    thread.close();
    let (memory, thread) = start(settings(&dir)).unwrap();
    let found = memory.additions("a", &[link(2), link(3), link(1)]).await.unwrap();
    let found: Vec<_> = found.iter().map(|(link, it)| (link.0[0], it.block.as_str())).collect();
    assert_eq!(found, [(2, "two"), (1, "one")]);
    assert_eq!(memory.additions("b", &[link(1)]).await.unwrap(), []);
    thread.close();
}

#[tokio::test]
async fn what_is_forgotten_is_in_no_file() {
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir);
    let (memory, thread) = start(settings.clone()).unwrap();
    for (owner, number, block, repository) in [
        ("a", 1, "zeppelin taken back", "ours"),
        ("a", 2, "zeppelin of plans", "plans"),
        ("b", 3, "balloon of plans", "plans"),
    ] {
        memory.add(owner, link(number), addition(block, repository)).await.unwrap();
    }
    assert!(on_disk(&settings, "zeppelin"));
    memory.take_back("a", vec![link(1)]).await.unwrap();
    assert!(!on_disk(&settings, "taken back") && on_disk(&settings, "zeppelin"));
    memory.forget_repository("plans", Some("a".into())).await.unwrap();
    assert!(!on_disk(&settings, "zeppelin") && on_disk(&settings, "balloon"));
    memory.forget_repository("plans", None).await.unwrap();
    assert!(!on_disk(&settings, "balloon"));
    thread.close();
}

#[test]
fn what_is_too_old_or_too_much_goes() {
    let mut connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(include_str!("../../../migrations/memory/0001_additions.sql"))
        .unwrap();
    for (number, now) in [(1, 100), (2, 200), (3, 300), (4, 9_000)] {
        let large = addition(&"x".repeat(1000), "r");
        additions::add(&connection, "a", link(number), &large, now).unwrap();
    }
    let kept = Duration::from_secs(1000);
    // The last one is from a time when the clock was wrong.
    assert_eq!(additions::retain(&connection, kept, 2500, 1150).unwrap(), 2);
    let left = |connection: &mut Connection| {
        let all: Vec<_> = (1..5).map(link).collect();
        let found = additions::find(connection, "a", &all, 300).unwrap();
        found.iter().map(|(link, _)| link.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(left(&mut connection), [2, 3]);
    assert_eq!(additions::retain(&connection, kept, 1500, 1150).unwrap(), 1);
    assert_eq!(left(&mut connection), [3]);
}
