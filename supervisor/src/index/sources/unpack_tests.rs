//! Archives as people make them, and as nobody should.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 100_000, entries: 20 };

/// An archive of entries of any kind, with names that a decent writer refuses.
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, text) in entries {
        let mut header = Header::new_gnu();
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let content = if is_link { "" } else { text };
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if is_link {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o777);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn refusal(archive: &[u8]) -> String {
    let place = tempfile::tempdir().unwrap();
    let inside = place.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let refused = unpack(archive, &inside, BOUNDS).unwrap_err().to_string();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something is outside");
    refused
}

#[test]
fn plain_and_compressed_archives_become_files() {
    let long = format!("{}/a.rs", ["directory"; 20].join("/"));
    let mut builder =
        Builder::new(archive(&[(EntryType::Directory, "./src/", "")])[..512].to_vec());
    let mut header = Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o4755);
    builder.append_data(&mut header, &long, &b"fn a("[..]).unwrap();
    let pax = [("comment", &b"x"[..]), ("path", &b"src/b.rs"[..])];
    builder.append_pax_extensions(pax).unwrap();
    header.set_path("c.rs").unwrap();
    header.set_cksum();
    builder.append(&header, &b"fn b("[..]).unwrap();
    let whole = builder.into_inner().unwrap();
    for sent in [whole.clone(), gzip(&whole)] {
        let place = tempfile::tempdir().unwrap();
        let unpacked = unpack(&sent[..], place.path(), BOUNDS).unwrap();
        assert_eq!(unpacked, Unpacked { files: 2, bytes: 10, links: 0 });
        assert_eq!(fs::read_to_string(place.path().join(&long)).unwrap(), "fn a(");
        assert_eq!(fs::read_to_string(place.path().join("src/b.rs")).unwrap(), "fn b(");
        assert!(!place.path().join("c.rs").exists());
    }
}

#[test]
fn links_within_are_left_out_and_nothing_leads_outside() {
    use EntryType as Kind;
    let fine = archive(&[
        (Kind::Regular, "src/a.rs", "fn a() {}"),
        (Kind::Symlink, "src/b.rs", "../src/a.rs"),
        (Kind::Link, "c.rs", "src/a.rs"),
    ]);
    let place = tempfile::tempdir().unwrap();
    let unpacked = unpack(&fine[..], place.path(), BOUNDS).unwrap();
    assert_eq!((unpacked.files, unpacked.links), (1, 2));
    assert_eq!(fs::read_dir(place.path().join("src")).unwrap().count(), 1);

    for (entries, why) in [
        (&[(Kind::Regular, "/etc/passwd", "x")][..], "absolute path"),
        (&[(Kind::Regular, "a/../../b", "x")], "`..`"),
        (&[(Kind::Directory, "..", "")], "`..`"),
        (&[(Kind::Symlink, "a", "../b")], "leads out"),
        (&[(Kind::Symlink, "a", "/etc")], "leads out"),
        (&[(Kind::Symlink, "a/b", "../../c")], "leads out"),
        (&[(Kind::Link, "a/b", "../c")], "leads out"),
        (&[(Kind::Char, "a", "")], "no file, directory or link"),
        (&[(Kind::Block, "a", "")], "no file, directory or link"),
        (&[(Kind::Fifo, "a", "")], "no file, directory or link"),
        (&[(Kind::GNUSparse, "a", "")], "no file, directory or link"),
        (&[(Kind::Regular, "a", "x"), (Kind::Regular, "a", "y")], "place of another"),
        (&[(Kind::Regular, "a", "x"), (Kind::Regular, "a/b", "y")], "place of another"),
        (&[(Kind::Directory, "a", ""), (Kind::Regular, "a", "y")], "place of another"),
        (&[(Kind::Symlink, "a", "b"), (Kind::Char, "a/b", "")], "no file, directory or link"),
    ] {
        let refused = refusal(&archive(entries));
        assert!(refused.contains(why), "{entries:?}: {refused}");
    }
}

#[test]
fn what_is_too_much_is_refused_before_it_is_taken() {
    use EntryType as Kind;
    let many: Vec<_> = (0..30).map(|number| format!("{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (Kind::Regular, name.as_str(), "")).collect();
    assert!(refusal(&archive(&many)).contains("more than 20 entries"));
    let large = "x".repeat(200_000);
    assert!(refusal(&archive(&[(Kind::Regular, "a", &large)])).contains("too large"));
    // A bomb, as a file and as the header before one.
    let bomb = gzip(&archive(&[(Kind::Regular, "a", &"x".repeat(30_000_000))]));
    assert!(bomb.len() < 200_000);
    assert!(refusal(&bomb).contains("too large"));
    let place = tempfile::tempdir().unwrap();
    let wide = Bounds { bytes: 1 << 40, entries: 20 };
    let refused = unpack(&bomb[..], place.path(), wide).unwrap_err().to_string();
    assert!(refused.contains("more than 100 times what was sent"), "{refused}");
    for kind in [Kind::GNULongName, Kind::GNULongLink, Kind::XHeader, Kind::XGlobalHeader] {
        let refused = refusal(&archive(&[(kind, "a", &"x".repeat(90_000))]));
        assert!(refused.contains("header that is too long"), "{refused}");
    }
    let deep = ["d"; 49].join("/");
    let deeper = format!("{deep}/{}", ["e"; 60].join("/"));
    assert!(
        refusal(&archive(&[(Kind::GNULongName, "x", &deeper), (Kind::Regular, "x", "")]))
            .contains("too deep")
    );
    let long = format!("{}/a", "y".repeat(300));
    assert!(
        refusal(&archive(&[(Kind::GNULongName, "x", &long), (Kind::Regular, "x", "")]))
            .contains("place of another")
    );
    let longest = "z".repeat(1100);
    assert!(
        refusal(&archive(&[(Kind::GNULongName, "x", &longest), (Kind::Regular, "x", "")]))
            .contains("too long a path")
    );
}

#[test]
fn what_is_no_archive_or_half_of_one_is_refused() {
    assert!(
        refusal(b"once upon a time, there was a long text".repeat(40).as_slice())
            .contains("no tar archive")
    );
    let whole = archive(&[(EntryType::Regular, "a.rs", &"fn a() {}".repeat(1000))]);
    assert!(refusal(&whole[..3000]).contains("the archive"));
    let packed = gzip(&whole);
    assert!(refusal(&packed[..packed.len() - 9]).contains("ends too early"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is changed in an archive, nothing is made outside, nothing is a link,
    /// nothing goes over the bounds, and it comes to an end.
    #[test]
    fn a_damaged_archive_does_no_harm(
        names in proptest::collection::vec("[ab./]{1,8}", 1..6),
        kinds in proptest::collection::vec(0_u8..8, 6),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        packed in any::<bool>(),
        mend in any::<bool>(),
    ) {
        let kinds = kinds.into_iter().map(|kind| EntryType::new(b'0' + kind));
        let entries: Vec<_> =
            names.iter().zip(kinds).map(|(name, kind)| (kind, name.as_str(), "../a/b")).collect();
        let mut bytes = archive(&entries);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if mend {
                // So that the change is in a header that is believed.
                let start = at / 512 * 512;
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[start..start + 512]);
                header.set_cksum();
                bytes[start..start + 512].copy_from_slice(header.as_bytes());
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if packed {
            bytes = gzip(&bytes);
        }
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let _ = unpack(&bytes[..], &inside, BOUNDS);
        prop_assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let (mut left, mut total) = (vec![inside], 0);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                prop_assert!(kind.is_dir() || kind.is_file());
                total += if kind.is_file() { entry.metadata().unwrap().len() } else { 0 };
                if kind.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        prop_assert!(total <= BOUNDS.bytes + 65_536);
    }
}
