//! What is remembered, and that what is forgotten is gone from the disk.

use tempfile::TempDir;

use super::*;
use crate::memory::recall::Found;

fn settings(dir: &TempDir) -> Settings {
    let database = dir.path().join("memory.db");
    Settings { database, kept: Duration::from_secs(1000), bytes: 1 << 20 }
}

fn link(number: u8) -> Link {
    Link([number; 16])
}

fn addition(block: &str, repository: &str) -> Addition {
    let items = format!(r#"{{"code":[{{"repository":"{repository}","tokens":3}}]}}"#);
    Addition { asked: "[]".into(), block: block.into(), items }
}

fn decision(number: u8, masked: bool, block: &str) -> Decision {
    let (link, block) = (link(number), block.to_owned());
    Decision { link, masked, block, receipt: String::new(), behind: None }
}

fn migrate(connection: &Connection) {
    for migration in [
        include_str!("../../../migrations/memory/0001_additions.sql"),
        include_str!("../../../migrations/memory/0002_conversations.sql"),
        include_str!("../../../migrations/memory/0003_summaries.sql"),
    ] {
        connection.execute_batch(migration).unwrap();
    }
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
    memory.add("a", link(1), addition("old", "r"), None).await.unwrap();
    memory.add("a", link(1), addition("one", "r"), None).await.unwrap();
    memory.add("a", link(2), addition("two", "r"), None).await.unwrap();
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
        memory.add(owner, link(number), addition(block, repository), None).await.unwrap();
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
    migrate(&connection);
    for (number, now) in [(1, 100), (2, 200), (3, 300), (4, 9_000)] {
        let large = addition(&"x".repeat(1000), "r");
        additions::add(&connection, "a", link(number), &large, None, now).unwrap();
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

/// Messages by their links, all of the user.
fn said(texts: &[(u8, &str)]) -> Vec<Said> {
    let one = |(number, text): &(u8, &str)| Said {
        link: link(*number),
        alone: Link([u8::try_from(text.len()).unwrap(); 16]),
        role: "user",
        content: (*text).to_owned(),
        calls: None,
    };
    texts.iter().map(one).collect()
}

#[tokio::test]
async fn a_conversation_is_known_by_its_messages_or_its_name() {
    let dir = TempDir::new().unwrap();
    let (memory, thread) = start(settings(&dir)).unwrap();
    let open = |owner: &'static str, name: Option<&str>, texts: &[(u8, &str)]| {
        let (memory, name, said) = (memory.clone(), name.map(str::to_owned), said(texts));
        async move { memory.open(owner, name, said).await.unwrap() }
    };
    let first = open("a", None, &[(1, "one"), (2, "second")]).await;
    let grown = open("a", None, &[(1, "one"), (2, "second"), (3, "the third")]).await;
    assert_eq!(grown.id, first.id);
    assert_eq!(open("a", None, &[(1, "one"), (4, "another")]).await.id, first.id, "a branch");
    assert_ne!(open("b", None, &[(1, "one")]).await.id, first.id);
    assert_ne!(open("a", None, &[(9, "else")]).await.id, first.id);
    let named = open("a", Some("x"), &[(1, "one"), (2, "second")]).await;
    assert_ne!(named.id, first.id);
    // Its client sends only the end of it, whose links are others.
    assert_eq!(open("a", Some("x"), &[(7, "second"), (8, "and now")]).await.id, named.id);
    let list = memory.list("a").await.unwrap();
    let of_named = list.iter().find(|shown| shown.id == named.id).unwrap();
    assert_eq!((of_named.messages, of_named.bytes, of_named.name.as_deref()), (3, 16, Some("x")));

    memory.shorten(first.id, vec![decision(1, false, "short")]).await.unwrap();
    memory.shorten(first.id, vec![decision(2, true, "")]).await.unwrap();
    thread.close();
    let (memory, thread) = start(settings(&dir)).unwrap();
    let all = said(&[(1, "one"), (2, "second"), (3, "the third")]);
    let known = memory.open("a", None, all).await.unwrap();
    let cut = |at, block: &str| Some(Cut { at, block: block.into(), ..Cut::default() });
    assert_eq!(known, Known { id: first.id, cut: cut(0, "short"), masked: Some(1) });
    let branch = memory.open("a", None, said(&[(1, "one"), (5, "not the second")])).await.unwrap();
    assert_eq!((branch.cut, branch.masked), (cut(0, "short"), None));
    thread.close();
}

#[tokio::test]
async fn what_is_decided_in_advance_holds_from_the_next_message_on() {
    let dir = TempDir::new().unwrap();
    let (memory, thread) = start(settings(&dir)).unwrap();
    let all = said(&[(1, "one"), (2, "second"), (3, "the third"), (4, "and the fourth")]);
    let id = memory.open("a", None, all[..3].to_vec()).await.unwrap().id;
    let early = Decision { behind: Some(link(2)), ..decision(1, false, "early") };
    memory.shorten(id, vec![early.clone()]).await.unwrap();
    let cut = async |said: &[Said]| memory.again(id, said.to_vec()).await.unwrap().unwrap().cut;
    assert_eq!(cut(&all[..2]).await, None, "the same again is the same prompt");
    let next = cut(&all[..3]).await.unwrap();
    assert_eq!((next.block.as_str(), next.is_new), ("early", true));
    assert!(!cut(&all).await.unwrap().is_new);
    assert_eq!(cut(&said(&[(1, "one"), (5, "a branch"), (6, "of it")])).await, None);
    // What is decided at once is decided.
    memory.shorten(id, vec![decision(1, false, "now")]).await.unwrap();
    memory.shorten(id, vec![early]).await.unwrap();
    assert_eq!(cut(&all[..2]).await.unwrap().block, "now");
    assert_eq!(memory.again(id + 1, all).await.unwrap(), None);
    thread.close();
}

#[tokio::test]
async fn a_summary_is_there_whole_or_not_and_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir);
    let (memory, thread) = start(settings.clone()).unwrap();
    let id = memory.open("a", None, said(&[(1, "one")])).await.unwrap().id;
    let summed = async || memory.summaries(id, vec![link(1), link(2)]).await.unwrap();
    assert_eq!(summed().await, [Summed::default(), Summed::default()]);
    for _ in 0..2 {
        assert!(memory.begin_summary(id, link(1)).await.unwrap());
    }
    assert_eq!(summed().await[0], Summed { attempts: 2, text: None });
    for text in ["a zeppelin", "another one"] {
        memory.keep_summary(id, link(1), text.into()).await.unwrap();
    }
    assert_eq!(summed().await[0].text.as_deref(), Some("a zeppelin"), "it does not change");
    memory.forget("a", Some(id)).await.unwrap();
    assert!(!on_disk(&settings, "zeppelin"));
    assert!(!memory.begin_summary(id, link(1)).await.unwrap());
    memory.keep_summary(id, link(1), "a zeppelin".into()).await.unwrap();
    assert_eq!(summed().await[0], Summed::default());
    thread.close();
}

#[tokio::test]
async fn passages_are_found_again_until_they_are_forgotten() {
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir);
    let (memory, thread) = start(settings.clone()).unwrap();
    let long = format!("{}\nThe zeppelinPort is 8443.\n{}", "x ".repeat(900), "y ".repeat(900));
    let all = said(&[(1, "hello"), (2, "zeppelin moored")]);
    let mut all: Vec<_> = all.into_iter().collect();
    all.push(Said { content: long, ..said(&[(3, "abcdefghi")]).remove(0) });
    let id = memory.open("a", None, all).await.unwrap().id;
    let terms = || vec!["zeppelin".to_owned(), "port".to_owned()];
    let nobody = Link([0; 16]);
    let recall = async |id, among, there: Vec<Link>, question| {
        memory.recall(id, terms(), among, there, question).await.unwrap()
    };
    let Found { gone: found, .. } = recall(id, None, Vec::new(), nobody).await;
    assert!(found[0].text.contains("8443") && found[0].words.len() >= 2, "{found:?}");
    assert_eq!(found.len(), 2);
    let among = Some(vec![link(1), link(2)]);
    let Found { gone: found, .. } = recall(id, among, Vec::new(), nobody).await;
    assert_eq!((found.len(), found[0].text.as_str()), (1, "zeppelin moored"));
    let there = Link([15; 16]);
    let found = recall(id, None, vec![there], nobody).await;
    assert_eq!((found.gone.len(), found.there.len(), found.messages), (1, 1, 3));
    let found = recall(id, None, vec![there], there).await;
    assert_eq!((found.gone.len(), found.there.len()), (1, 0));
    assert_eq!(recall(id + 1, None, Vec::new(), nobody).await, Found::default());
    assert_eq!(memory.export("a", Some(id)).await.unwrap().len(), 3);
    assert_eq!(memory.export("b", Some(id)).await.unwrap(), []);

    assert_eq!(memory.forget("b", Some(id)).await.unwrap(), 0);
    assert!(on_disk(&settings, "zeppelin") && on_disk(&settings, "8443"));
    assert_eq!(memory.forget("a", Some(id)).await.unwrap(), 1);
    // Somebody who was in the middle of it leaves nothing, and does no harm.
    memory.shorten(id, vec![decision(1, false, "zeppelin")]).await.unwrap();
    memory.add("a", link(1), addition("zeppelin", "r"), Some(id)).await.unwrap();
    assert_eq!(memory.additions("a", &[link(1)]).await.unwrap(), []);
    for word in ["zeppelin", "8443", "moor", "hello"] {
        assert!(!on_disk(&settings, word), "{word}");
    }
    thread.close();
}

#[test]
fn conversations_that_are_too_old_or_too_much_go_with_their_words() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&connection);
    for (number, now) in [(1, 100), (2, 1000), (3, 1001)] {
        let text = "zeppelin ".repeat(100);
        let all = said(&[(number, &text[..100 + usize::from(number)])]);
        conversations::open(&mut connection, "a", None, &all, now).unwrap();
    }
    let retain = |connection: &mut Connection, bytes| {
        conversations::retain(connection, Duration::from_secs(500), bytes, 1001).unwrap()
    };
    assert_eq!(retain(&mut connection, 10_000), 1);
    assert_eq!(retain(&mut connection, 110), 1);
    let count = |table: &str| -> i64 {
        let select = format!("SELECT count(*) FROM {table}");
        connection.query_row(&select, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("conversations"), count("turns"), count("passages")), (1, 1, 1));
}
