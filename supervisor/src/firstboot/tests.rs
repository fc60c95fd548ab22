//! A first boot below a directory, cut short at each step.

use super::*;

const FILE: &str = "hostname = 'box'\nmodel = 'echo'\napi_keys = ['0123456789abcdef0123456789abcdef']\n\
    ssh_keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx0uYk3yq4sQm1o8a2Vw7t5Zl9cNfPqRb6dHsXeGkTz']\n";

fn machine(file: &str) -> recreated_boards::Tree {
    recreated_boards::of(&[("boot/efi/stoker.toml", file)])
}

fn take(tree: &recreated_boards::Tree) -> (Outcome, String) {
    let mut said = Vec::new();
    let outcome = first_boot(&tree.root(), &[], &mut said).unwrap();
    (outcome, String::from_utf8(said).unwrap())
}

fn read(tree: &recreated_boards::Tree, path: &str) -> Option<String> {
    fs::read_to_string(tree.path().join(path)).ok()
}

#[test]
fn a_file_is_taken_once_and_gone() {
    let tree = machine(FILE);
    let (outcome, said) = take(&tree);
    assert_eq!(outcome, Outcome::Taken);
    assert_eq!(read(&tree, "etc/hostname").as_deref(), Some("box\n"));
    let server = read(&tree, SERVER).unwrap();
    assert_eq!(server, "[engine]\nmodel = \"echo\"\n");
    let keys = keys::read(&tree.path().join(STATE_DIR)).unwrap().unwrap();
    let presented = keys::Hash::of("0123456789abcdef0123456789abcdef");
    assert_eq!(keys.owner(&presented).map(KeyName::as_str), Some("key-1"));
    assert!(said.contains("everybody is asked for an API key: key-1\n"), "{said}");
    assert!(read(&tree, "root/.ssh/authorized_keys").unwrap().starts_with("ssh-ed25519 "));
    assert_eq!(read(&tree, "boot/efi/stoker.toml"), None);
    let told = read(&tree, "boot/efi/stoker-result.txt").unwrap();
    assert_eq!(told.replace("\r\n", "\n"), said);
    assert!(!said.contains("0123456789abcdef"), "{said}");

    tree.write("boot/efi/stoker.toml", "hostname = 'other'\n");
    assert_eq!(take(&tree).0, Outcome::Nothing);
    assert_eq!(read(&tree, "etc/hostname").as_deref(), Some("box\n"));
}

#[test]
fn without_a_file_nothing_happens_and_the_next_boot_looks_again() {
    let tree = recreated_boards::of(&[]);
    assert_eq!(take(&tree), (Outcome::Nothing, "there is no stoker.toml\n".to_owned()));
    assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
    tree.write("run/stoker-firstboot/stick/stoker.toml", "hostname = 'box'\n");
    assert_eq!(take(&tree).0, Outcome::Taken);
}

#[test]
fn who_names_no_keys_leaves_it_to_be_claimed_unless_it_is_to_be_open() {
    let claim = |file: &str| {
        let tree = machine(file);
        let said = take(&tree).1;
        (said, claim::read(&tree.path().join(STATE_DIR)).unwrap())
    };
    let (said, waits) = claim("hostname = 'box'\n");
    assert!(said.contains("who reads its console claims it") && waits.is_none(), "{said}");
    let (said, waits) = claim("open_to_all = true\n");
    assert!(said.contains("nobody is asked for an API key\n"), "{said}");
    assert_eq!(waits, Some(claim::Claim::Over(None)));
    let both = "open_to_all = true\napi_keys = ['0123456789abcdef0123456789abcdef']\n";
    assert_eq!(take(&machine(both)).0, Outcome::Refused);
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_can_be_mended() {
    let tree = machine("hostname = 'box'\nmodle = 'echo'\n");
    let (outcome, said) = take(&tree);
    assert_eq!(outcome, Outcome::Refused);
    assert!(said.contains("line 2: unknown field `modle`"), "{said}");
    assert_eq!(read(&tree, "etc/hostname"), None);
    assert!(read(&tree, "boot/efi/stoker-result.txt").unwrap().contains("`modle`"));
    tree.write("boot/efi/stoker.toml", "hostname = 'box'\nmodel = 'echo'\n");
    assert_eq!(take(&tree).0, Outcome::Taken);
}

#[test]
fn wherever_the_power_fails_the_next_boot_ends_the_same() {
    let whole = machine(FILE);
    take(&whole);
    // Some files are written, and the file is there still.
    for written in 0..=5 {
        let tree = machine(FILE);
        let wishes = Wishes::parse(FILE.as_bytes()).unwrap();
        for setting in settings(&tree.root(), &wishes).unwrap().iter().take(written) {
            tree.root::<jetpack::Root>().put(setting).unwrap();
        }
        take(&tree);
        for setting in settings(&whole.root(), &wishes).unwrap() {
            assert_eq!(read(&tree, setting.path), read(&whole, setting.path), "{written}");
        }
        let keys = format!("{STATE_DIR}/{}", keys::FILE);
        assert_eq!(read(&tree, &keys), read(&whole, &keys), "{written}");
    }
    // It is written over and not yet taken away.
    let tree = machine(&"\0".repeat(FILE.len()));
    assert_eq!(take(&tree).0, Outcome::Taken);
    assert_eq!(read(&tree, "boot/efi/stoker.toml"), None);
    assert_eq!(read(&tree, "etc/hostname"), None);
}

#[test]
fn a_machine_that_cannot_be_written_keeps_the_file() {
    let tree = machine(FILE);
    tree.write("etc/hostname/is-a-directory", "");
    let error = first_boot(&tree.root(), &[], &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "write etc/hostname");
    assert_eq!(read(&tree, "boot/efi/stoker.toml").as_deref(), Some(FILE));
}
