//! How programmers shorten words: what is asked for as "argument" stands in code as
//! `arg`. Only what is usual in every language and trade. Pure.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::stem::stem;

/// Words as they are asked for, and what stands for them in names.
const SHORT_FORMS: [(&str, &[&str]); 83] = [
    ("add", &["append", "push"]),
    ("address", &["addr"]),
    ("administrator", &["admin"]),
    ("allocate", &["alloc"]),
    ("application", &["app"]),
    ("argument", &["arg"]),
    ("asynchronous", &["async"]),
    ("attribute", &["attr"]),
    ("authentication", &["auth"]),
    ("average", &["avg"]),
    ("binary", &["bin"]),
    ("block", &["blk"]),
    ("buffer", &["buf"]),
    ("build", &["make"]),
    ("calculate", &["calc"]),
    ("callback", &["cb"]),
    ("character", &["char"]),
    ("check", &["is"]),
    ("command", &["cmd"]),
    ("compare", &["cmp"]),
    ("compute", &["calc"]),
    ("configuration", &["config", "conf"]),
    ("connection", &["conn"]),
    ("context", &["ctx"]),
    ("control", &["ctrl"]),
    ("convert", &["to"]),
    ("copy", &["clone"]),
    ("create", &["new"]),
    ("current", &["cur"]),
    ("database", &["db"]),
    ("delete", &["remove"]),
    ("descriptor", &["fd"]),
    ("destination", &["dst", "dest"]),
    ("determine", &["is"]),
    ("dictionary", &["dict"]),
    ("directory", &["dir"]),
    ("display", &["show"]),
    ("document", &["doc"]),
    ("environment", &["env"]),
    ("equal", &["eq"]),
    ("error", &["err"]),
    ("execute", &["exec"]),
    ("expression", &["expr"]),
    ("fetch", &["get"]),
    ("function", &["fn", "func"]),
    ("generate", &["make"]),
    ("image", &["img"]),
    ("index", &["idx"]),
    ("information", &["info"]),
    ("initialise", &["init"]),
    ("initialize", &["init"]),
    ("integer", &["int"]),
    ("iterator", &["iter"]),
    ("language", &["lang"]),
    ("length", &["len"]),
    ("library", &["lib"]),
    ("maximum", &["max"]),
    ("memory", &["mem"]),
    ("message", &["msg"]),
    ("minimum", &["min"]),
    ("number", &["num"]),
    ("object", &["obj"]),
    ("option", &["opt", "opts"]),
    ("package", &["pkg"]),
    ("parameter", &["param"]),
    ("pointer", &["ptr"]),
    ("position", &["pos"]),
    ("previous", &["prev"]),
    ("reference", &["ref"]),
    ("remove", &["delete"]),
    ("request", &["req"]),
    ("response", &["res", "resp"]),
    ("retrieve", &["get"]),
    ("return", &["get"]),
    ("size", &["len"]),
    ("source", &["src"]),
    ("string", &["str"]),
    ("temporary", &["tmp"]),
    ("utility", &["util"]),
    ("value", &["val"]),
    ("variable", &["var"]),
    ("version", &["ver"]),
    ("whether", &["is"]),
];

/// The forms of a word with this stem.
#[must_use]
pub fn of(word: &str) -> &'static [&'static str] {
    static BY_STEM: LazyLock<HashMap<String, &[&str]>> =
        LazyLock::new(|| SHORT_FORMS.iter().map(|(word, short)| (stem(word), *short)).collect());
    BY_STEM.get(word).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_word_has_its_short_forms() {
        for word in ["argument", "arguments"] {
            assert_eq!(of(&stem(word)), ["arg"]);
        }
        assert_eq!(of(&stem("initializing")), ["init"]);
        assert!(of("fan").is_empty());
    }

    #[test]
    fn each_word_stands_there_once_and_in_order() {
        assert!(SHORT_FORMS.is_sorted_by(|one, next| one.0 < next.0));
        let stems: std::collections::BTreeSet<_> =
            SHORT_FORMS.iter().map(|(word, _)| stem(word)).collect();
        assert_eq!(stems.len(), SHORT_FORMS.len());
    }
}
