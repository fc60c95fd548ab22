//! Good configurations, and the exact words for bad ones.

use expect_test::{Expect, expect};

use super::*;

fn load_with(files: &[(&str, &str)], variables: &[(&str, &str)], flags: &Flags) -> String {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let settings = super::files(root.path()).and_then(|mut layers| {
        layers.push(Layer::environment(variables)?);
        layers.push(Layer::flags(flags)?);
        settle(&layers)
    });
    let text = match settings {
        Ok(settings) => format!(
            "listen {}, queue {}, model {:?}",
            settings.server.listen,
            settings.admission.queue,
            settings.engine.model.map(|id| id.to_string())
        ),
        Err(error) => error.to_string(),
    };
    text.replace(&root.path().display().to_string(), "")
}

fn file_says(text: &str, expected: &Expect) {
    expected.assert_eq(&load_with(&[("etc/stoker/stoker.toml", text)], &[], &Flags::default()));
}

#[test]
fn no_files_at_all_are_a_working_configuration() {
    expect!["listen 127.0.0.1:11434, queue 64, model None"].assert_eq(&load_with(
        &[],
        &[],
        &Flags::default(),
    ));
}

#[test]
fn later_layers_win() {
    let files = [
        ("usr/lib/stoker/stoker.toml", "[admission]\nqueue = 1\n[engine]\nmodel = \"vendor\"\n"),
        ("etc/stoker/stoker.toml", "[admission]\nqueue = 2\n[server]\nlisten = \"10.0.0.1:1\"\n"),
        ("etc/stoker/conf.d/20-b.toml", "[admission]\nqueue = 4\n"),
        ("etc/stoker/conf.d/10-a.toml", "[admission]\nqueue = 3\n"),
        ("etc/stoker/conf.d/notes.txt", "not read"),
    ];
    expect![[r#"listen 10.0.0.1:1, queue 4, model Some("vendor")"#]].assert_eq(&load_with(
        &files,
        &[],
        &Flags::default(),
    ));
    let variables = [("STOKER_ADMISSION__QUEUE", "5"), ("STOKER_SERVER__LISTEN", "10.0.0.2:2")];
    expect![[r#"listen 10.0.0.2:2, queue 5, model Some("vendor")"#]].assert_eq(&load_with(
        &files,
        &variables,
        &Flags::default(),
    ));
    let flags = Flags { listen: Some("[::1]:3".to_owned()), ..Flags::default() };
    expect![[r#"listen [::1]:3, queue 5, model Some("vendor")"#]]
        .assert_eq(&load_with(&files, &variables, &flags));
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
    file_says(
        "[server]\nmax_connections = 5\nlistne = \"127.0.0.1:1\"\n",
        &expect![
            "/etc/stoker/stoker.toml:3: server.listne: unknown key; did you mean server.listen?"
        ],
    );
    file_says(
        "listen = \"127.0.0.1:1\"\n",
        &expect!["/etc/stoker/stoker.toml:1: listen: unknown key; did you mean server.listen?"],
    );
    file_says(
        "[sever]\nlisten = \"127.0.0.1:1\"\n",
        &expect!["/etc/stoker/stoker.toml:1: sever: unknown key; did you mean server?"],
    );
    file_says(
        "[engine]\n\nzzz = 1\n",
        &expect!["/etc/stoker/stoker.toml:3: engine.zzz: unknown key"],
    );
}

#[test]
fn a_value_of_the_wrong_type_says_what_was_expected() {
    file_says(
        "[admission]\nqueue = \"many\"\n",
        &expect![[
            r#"/etc/stoker/stoker.toml:2: admission.queue: expected a whole number, 0 or more, found "many""#
        ]],
    );
    file_says(
        "[admission]\nqueue = -1\n",
        &expect![
            "/etc/stoker/stoker.toml:2: admission.queue: expected a whole number, 0 or more, found -1"
        ],
    );
    file_says(
        "[server]\nlisten = 11434\n",
        &expect!["/etc/stoker/stoker.toml:2: server.listen: expected text in quotes, found 11434"],
    );
    file_says(
        "server = 11434\n",
        &expect!["/etc/stoker/stoker.toml:1: server: expected a table, found 11434"],
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    file_says(
        "\n\n[telemetry]\nperiod_ms = 5\n",
        &expect![
            "/etc/stoker/stoker.toml:4: telemetry.period_ms: expected a whole number from 100 to 60000, found 5"
        ],
    );
    file_says(
        "[server]\nlisten = \"localhost\"\n",
        &expect![[
            r#"/etc/stoker/stoker.toml:2: server.listen: expected an address and a port such as 127.0.0.1:11434, found "localhost""#
        ]],
    );
    file_says(
        "[engine]\nmodel = \"../x\"\n",
        &expect![[
            r#"/etc/stoker/stoker.toml:2: engine.model: expected an engine's name (letters, digits, ".", "_" and "-"), found "../x""#
        ]],
    );
    file_says(
        "[server]\norigins = [\"https://a\", \"b\"]\n",
        &expect![[
            r#"/etc/stoker/stoker.toml:2: server.origins: expected origins such as https://chat.example, found "b""#
        ]],
    );
    file_says(
        "[server]\nhosts = \"a\"\n",
        &expect![[
            r#"/etc/stoker/stoker.toml:2: server.hosts: expected a list in brackets, found "a""#
        ]],
    );
    file_says(
        "state_dir = \"\"\n",
        &expect!["/etc/stoker/stoker.toml:1: state_dir: expected a path, found nothing"],
    );
}

#[test]
fn a_broken_line_is_named() {
    file_says(
        "[server]\nlisten = 127.0.0.1:11434\n",
        &expect!["/etc/stoker/stoker.toml:2: invalid float, expected nothing"],
    );
    file_says("[server\n", &expect!["/etc/stoker/stoker.toml:1: unclosed table, expected `]`"]);
    file_says(
        "[server]\nlisten = \"a\"\nlisten = \"b\"\n",
        &expect!["/etc/stoker/stoker.toml:3: duplicate key"],
    );
}

#[test]
fn a_switch_can_be_set_by_a_variable() {
    for (text, expected) in [("true", true), ("false", false)] {
        let variables = [("STOKER_ENGINE__REPRODUCIBLE".to_owned(), text.to_owned())];
        let settings = load(&Flags::default(), variables.into_iter()).unwrap();
        assert_eq!(settings.engine.reproducible, expected);
    }
}

#[test]
fn a_bad_variable_or_flag_is_named() {
    let variable = |name, text| load_with(&[], &[(name, text)], &Flags::default());
    expect!["STOKER_SERVER__LISTNE: server.listne: unknown key; did you mean server.listen?"]
        .assert_eq(&variable("STOKER_SERVER__LISTNE", "127.0.0.1:1"));
    expect![[r#"STOKER_ADMISSION__QUEUE: admission.queue: expected a whole number, 0 or more, found "many""#]].assert_eq(&variable("STOKER_ADMISSION__QUEUE", "many"));
    expect!["STOKER_SERVER__MAX_BODY_BYTES: server.max_body_bytes: expected a whole number from 1024 to 16711680, found 99999999"].assert_eq(&variable("STOKER_SERVER__MAX_BODY_BYTES", "99999999"));
    expect!["listen 127.0.0.1:11434, queue 64, model None"]
        .assert_eq(&variable("STOKER_LOG", "debug"));
    let flags = Flags { listen: Some("11434".to_owned()), ..Flags::default() };
    expect![[r#"--listen: server.listen: expected an address and a port such as 127.0.0.1:11434, found "11434""#]].assert_eq(&load_with(&[], &[], &flags));
}

#[test]
fn a_named_file_must_exist_and_replaces_the_others() {
    let flags = Flags { config: Some("/no/such/stoker.toml".into()), ..Flags::default() };
    let error = load(&flags, std::iter::empty()).unwrap_err();
    expect!["/no/such/stoker.toml: there is no such file"].assert_eq(&error.to_string());
}
