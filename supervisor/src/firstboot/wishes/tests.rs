//! What is taken, what is refused with which words, and that no text gets a line of
//! its own into a system file.

use super::*;
use proptest::prelude::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx0uYk3yq4sQm1o8a2Vw7t5Zl9cNfPqRb6dHsXeGkTz me@laptop";

const API_KEY: &str = "5ec2e70123456789abcdef5ec2e70123";

fn refused(text: &str) -> String {
    Wishes::parse(text.as_bytes()).unwrap_err()
}

#[test]
fn everything_can_be_wished_for() {
    let text = format!(
        "\u{feff}hostname = \"Stoker-2\"\r\nmodel = \"qwen2.5-coder-7b\"\r\n\
         ssh_keys = [\"{KEY}\"]\r\napi_keys = [\"{API_KEY}\"]\r\ntime_server = \"10.0.0.1\"\r\n\
         [network]\r\naddress = \"10.0.0.5/24\"\r\ngateway = \"10.0.0.1\"\r\ndns = [\"10.0.0.1\"]\r\n"
    );
    let wishes = Wishes::parse(text.as_bytes()).unwrap();
    assert_eq!(wishes.hostname.as_deref(), Some("stoker-2"));
    assert_eq!(wishes.ssh_keys, [KEY]);
    let wifi = Wishes::parse(b"[wifi]\nname = 'a b'\npassword = 'long enough'").unwrap().wifi;
    assert_eq!(wifi.unwrap().password.as_deref(), Some("long enough"));
    for locale in ["C.UTF-8", "de_DE.UTF-8", "gsw_CH.UTF-8"] {
        let wishes = Wishes::parse(format!("locale = '{locale}'").as_bytes()).unwrap();
        assert_eq!(wishes.locale.as_deref(), Some(locale));
    }
    let owner = wishes.api_keys.owner(&Hash::of(API_KEY)).map(KeyName::as_str);
    assert_eq!(owner, Some("key-1"));
    assert_eq!(wishes.address.unwrap().prefix, 24);
    assert_eq!(Wishes::parse(b"").unwrap(), Wishes::default());
}

#[test]
fn api_keys_have_names_and_cannot_be_guessed() {
    let text = format!("[api_keys]\nalice = '{API_KEY}'\nci = '{API_KEY}x'\n");
    let names: Vec<_> =
        Wishes::parse(text.as_bytes()).unwrap().api_keys.names().map(KeyName::to_string).collect();
    assert_eq!(names, ["alice", "ci"]);
    for text in ["api_keys = ['hunter2']", "[api_keys]\n'hunter2 x' = 'hunter2'\n"] {
        let said = refused(text);
        assert!(said.starts_with("api_keys: key 1: ") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_without_secrets() {
    assert!(refused("\nhostnam = 'a'").starts_with("line 2: unknown field `hostnam`"));
    assert!(refused("api_keys = ['secret'").starts_with("line 1: "));
    for text in ["api_keys = 'secret'", "api_keys = ['secret', 3]", "network = 'secret'"] {
        let said = refused(text);
        assert!(said.starts_with("line 1: expected ") && !said.contains("secret"), "{said}");
    }
    for name in ["", "-a", "a b", "a.b", "localhost", "12", "a\\nb", &"a".repeat(64)] {
        assert!(refused(&format!("hostname = \"{name}\"")).starts_with("hostname: "), "{name}");
    }
    for (key, why) in [
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ("command=\\\"sh\\\" ssh-ed25519 AAAA", "without options"),
        ("ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQABAAABgQDJx0uYk3yq4sQm1o8a", "another kind"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA", "cut short"),
        ("ssh-ed25519 A\\nssh-ed25519 B", "one line"),
    ] {
        let said = refused(&format!("ssh_keys = [\"{KEY}\", \"{key}\"]"));
        assert!(said.starts_with("ssh_keys: key 2: ") && said.contains(why), "{said}");
    }
    for network in [
        "address = '10.0.0.5'",
        "address = '10.0.0.5/31'",
        "address = '10.0.0.0/24'",
        "address = '10.0.0.255/24'",
        "address = '127.0.0.1/8'",
        "address = '10.0.0.5/24'\ngateway = '10.0.1.1'",
        "address = '10.0.0.5/24'\ngateway = '10.0.0.5'",
        "address = '10.0.0.5/24'\ndns = ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4']",
    ] {
        let said = refused(&format!("[network]\n{network}"));
        assert!(said.starts_with("network."), "{network}: {said}");
    }
    assert!(refused("[network]\ngateway = '10.0.0.1'").contains("address"));
    for wifi in [
        "name = ''",
        "name = 'a name that is longer than a network can have'",
        "name = 'a'\npassword = 'secret'",
        "name = 'a'\npassword = \"secret\\nsecret\"",
        "name = 'a'\npassword = 'secrét secrét'",
    ] {
        let said = refused(&format!("[wifi]\n{wifi}"));
        assert!(said.starts_with("wifi.") && !said.contains("secr"), "{wifi}: {said}");
    }
    for locale in ["de", "de_DE", "DE_de.UTF-8", "de_DE.UTF-8\\nX=1", "x.UTF-8", ""] {
        assert!(refused(&format!("locale = \"{locale}\"")).starts_with("locale: "), "{locale}");
    }
    assert!(refused("time_server = 'a b'").starts_with("time_server: "));
    assert!(refused("model = '../x'").starts_with("model: "));
    let utf16 = Wishes::parse(&[0xff, 0xfe, b'a', 0]).unwrap_err();
    assert!(utf16.contains("UTF-16"), "{utf16}");
    assert!(Wishes::parse(&[0xc3, 0x28]).unwrap_err().contains("UTF-8"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Wishes::parse(&bytes);
    }

    #[test]
    fn no_value_brings_a_line_of_its_own(
        value in "[\\x00-\\x7fé]{0,40}",
        field in prop::sample::select(vec!["hostname", "model", "time_server"]),
    ) {
        let text = format!("{field} = {}\n", toml::Value::from(value.clone()));
        if let Ok(wishes) = Wishes::parse(text.as_bytes()) {
            let model = wishes.model.map(|model| model.as_str().to_owned());
            for taken in [wishes.hostname, model, wishes.time_server].into_iter().flatten() {
                prop_assert!(!taken.contains(|c: char| c.is_control() || c.is_whitespace()));
            }
        }
        let key = toml::Value::from(format!("{KEY}{value}"));
        if let Ok(wishes) = Wishes::parse(format!("ssh_keys = [{key}]\n").as_bytes()) {
            prop_assert!(!wishes.ssh_keys[0].contains(|c: char| c.is_control()));
        }
    }
}
