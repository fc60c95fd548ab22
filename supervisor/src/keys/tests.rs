//! Keys in a state directory, and what is no key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn name(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

fn add(place: &TempDir, of: &str) -> String {
    let key = make().unwrap();
    change(place.path(), |keys| keys.put(name(of), Hash::of(&key))).unwrap();
    key
}

#[test]
fn the_file_tells_whose_key_it_is_and_not_the_key() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(read(place.path()).unwrap(), None, "nobody is asked");
    let (alice, bob) = (add(&place, "alice"), add(&place, "bob"));
    assert!(alice.len() == 71 && alice != bob, "256 bits, each time others");

    let text = fs::read_to_string(place.path().join(FILE)).unwrap();
    assert!(text.contains("alice = ") && !text.contains(alice.trim_start_matches(PREFIX)));
    let mode = fs::metadata(place.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);

    let keys = read(place.path()).unwrap().unwrap();
    assert_eq!(keys.owner(&Hash::of(&alice)), Some(&name("alice")));
    assert_eq!(keys.owner(&Hash::of(&bob)), Some(&name("bob")));
    for wrong in ["", "alice", &alice[..70], &format!("{alice} "), &bob.to_uppercase()] {
        assert_eq!(keys.owner(&Hash::of(wrong)), None, "{wrong:?}");
    }
    assert!(!format!("{keys:?}").contains(&Hash::of(&alice).to_string()));
}

#[test]
fn where_the_last_key_is_gone_nobody_is_let_in() {
    let place = tempfile::tempdir().unwrap();
    let alice = add(&place, "alice");
    assert!(removed::remove(place.path(), &name("alice")).unwrap().is_some());
    let keys = read(place.path()).unwrap().unwrap();
    assert!(keys.is_empty() && keys.owner(&Hash::of(&alice)).is_none());
    assert!(forget_all(place.path()).unwrap());
    assert_eq!(read(place.path()).unwrap(), None);
    assert!(!forget_all(place.path()).unwrap());
}

#[test]
fn what_is_no_file_of_keys_is_an_error_and_stays() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(FILE);
    let digits = "a".repeat(64);
    for text in [
        "".to_owned(),
        "[sha256".to_owned(),
        format!("[sha256]\nalice = '{}'\n", &digits[1..]),
        format!("[sha256]\nalice = 'g{}'\n", &digits[1..]),
        format!("[sha256]\n'10.0.0.1' = '{digits}'\n"),
        format!("[sha256]\n[md5]\nalice = '{digits}'\n"),
    ] {
        fs::write(&path, &text).unwrap();
        let error = read(place.path()).unwrap_err();
        assert!(matches!(error, KeysError::Broken(_)), "{text}");
        assert!(change(place.path(), |_| Ok(())).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, format!("[sha256]\nalice = '{digits}'\n")).unwrap();
    assert_eq!(read(place.path()).unwrap().unwrap().names().len(), 1);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(read(place.path()).unwrap_err(), KeysError::Read { .. }));
}

#[test]
fn a_lent_key_is_good_for_that_long() {
    let place = tempfile::tempdir().unwrap();
    let (of, path) = (name("health"), place.path());
    assert!(lend(path, &of, |key| key.is_none()).unwrap(), "nobody is asked");
    add(&place, "alice");
    let key = lend(path, &of, |key| {
        let key = key.unwrap().to_owned();
        let keys = read(path).unwrap().unwrap();
        assert_eq!(keys.owner(&Hash::of(&key)), Some(&of));
        key
    });
    let keys = read(path).unwrap().unwrap();
    assert_eq!(keys.owner(&Hash::of(&key.unwrap())), None);
    assert_eq!(keys.names().collect::<Vec<_>>(), [&name("alice")]);
}

#[test]
fn two_writers_do_not_undo_each_other() {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = &place;
            scope.spawn(move || (0..5).for_each(|at| drop(add(place, &format!("k{writer}-{at}")))));
        }
    });
    assert_eq!(read(place.path()).unwrap().unwrap().names().len(), 20);
}

#[test]
fn there_is_a_bound() {
    let mut keys = Keys::default();
    for at in 0..MOST {
        keys.put(name(&format!("k{at}")), Hash::of("")).unwrap();
    }
    assert!(matches!(keys.put(name("other"), Hash::of("")), Err(KeysError::TooMany)));
    keys.put(name("k0"), Hash::of("another")).unwrap();
    assert!(keys.text().len() < 256 * 1024);
}

#[test]
fn keys_that_could_be_guessed_are_refused_and_not_repeated() {
    let long = "0123456789abcdef".repeat(2);
    assert!(Hash::of_brought(&long).is_ok());
    for weak in ["secret", &long[1..], &format!("{long} "), &format!("{long}\n"), &"ä".repeat(40)]
    {
        assert_eq!(Hash::of_brought(weak), Err(WeakKey), "{weak:?}");
        assert!(!WeakKey.to_string().contains(weak.trim()));
    }
}

#[test]
fn names_cannot_be_taken_for_something_else() {
    for good in ["alice", "a", "Build-Server.2_x"] {
        assert!(KeyName::new(good).is_some(), "{good}");
    }
    for bad in ["", "10.0.0.1", "::1", "key 0b05", "-a", ".a", "a b", "a\n", "ä", &"a".repeat(65)]
    {
        assert!(KeyName::new(bad).is_none(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(all in proptest::collection::btree_map("[a-zA-Z][a-zA-Z0-9._-]{0,63}", ".*", 0..20)) {
        let mut keys = Keys::default();
        for (of, key) in &all {
            keys.put(name(of), Hash::of(key)).unwrap();
        }
        prop_assert_eq!(Keys::parse(&keys.text()), Some(keys));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Keys::parse(&text);
    }
}

#[test]
fn what_a_keys_chats_have_stands_beside_it_and_goes_with_it() {
    let place = tempfile::tempdir().unwrap();
    let alice = add(&place, "alice");
    let _bob = add(&place, "bob");
    let path = place.path().join(FILE);
    let before = fs::read_to_string(&path).unwrap();
    assert!(!before.contains("chats"), "an older release reads it");
    let set = |of: &str, chats: Chats| {
        change(place.path(), |keys| keys.set_chats(name(of), chats.clone()))
    };
    let both = Chats { code: vec!["fans".into(), "c++".into()], memory: true };
    set("alice", both.clone()).unwrap();
    let keys = read(place.path()).unwrap().unwrap();
    assert_eq!(keys.owner(&Hash::of(&alice)), Some(&name("alice")));
    assert_eq!(
        (keys.chats(&name("alice")), keys.chats(&name("bob"))),
        (both.clone(), Chats::default())
    );
    assert_eq!(both.to_string(), "code of fans, c++ and memory");
    assert_eq!(
        Chats { code: vec!["*".into()], memory: false }.to_string(),
        "code of every repository"
    );
    assert_eq!(Chats::default().to_string(), "nothing");
    assert!(set("carol", both.clone()).is_err());
    let many = Chats { code: vec!["x".into(); 65], memory: false };
    assert!(set("bob", many).is_err());
    // A key of that name that is made later has none of it.
    let _ = removed::remove(place.path(), &name("alice")).unwrap();
    let _again = add(&place, "alice");
    assert!(read(place.path()).unwrap().unwrap().chats(&name("alice")).is_off());
    set("bob", both).unwrap();
    set("bob", Chats::default()).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("chats"));
}

#[test]
fn a_removed_key_waits_until_the_server_has_forgotten_it() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let [alice, bob] = ["alice", "bob"].map(|of| Hash::of(&add(&place, of)));
    assert!(removed::remove(at, &name("carol")).unwrap().is_none());
    assert_eq!(removed::read(at).unwrap(), []);
    for of in ["alice", "bob"] {
        let _ = removed::remove(at, &name(of)).unwrap().unwrap();
    }
    assert_eq!(removed::read(at).unwrap(), [alice, bob]);

    // One that is good again, as after a power cut between the two files.
    change(at, |keys| keys.put(name("bert"), bob)).unwrap();
    assert_eq!(removed::read(at).unwrap(), [alice]);
    fs::write(at.join(removed::FILE), format!("no key\n{bob}\n\u{fffd}\n{alice}")).unwrap();
    assert_eq!(removed::read(at).unwrap(), [alice]);
    removed::forgotten(at, &[alice]).unwrap();
    assert_eq!(removed::read(at).unwrap(), []);
    let _ = removed::remove(at, &name("bert")).unwrap();
    assert_eq!(removed::read(at).unwrap(), [bob]);
    assert!(forget_all(at).unwrap());
    assert_eq!(removed::read(at).unwrap(), [], "nobody is asked, and keys tell clients apart");
}

#[test]
fn as_many_removed_keys_wait_as_there_can_be_keys() {
    let place = tempfile::tempdir().unwrap();
    let hashes: Vec<_> = (0..=MOST).map(|at| Hash::of(&at.to_string())).collect();
    let lines: String = hashes[..MOST].iter().map(|hash| format!("{hash}\n")).collect();
    fs::write(place.path().join(removed::FILE), lines).unwrap();
    change(place.path(), |keys| keys.put(name("last"), hashes[MOST])).unwrap();
    let _ = removed::remove(place.path(), &name("last")).unwrap();
    assert_eq!(removed::read(place.path()).unwrap(), hashes[1..]);
}
