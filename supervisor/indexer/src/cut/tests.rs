//! What files in each language are cut into, and that nothing of any file is lost.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// What a file is cut into: lines, kind and header.
fn shown(chunks: &[Chunk]) -> String {
    let mut shown = String::new();
    for chunk in chunks {
        let Chunk { first_line, last_line, kind, header, .. } = chunk;
        let _ = writeln!(shown, "{first_line}-{last_line} {kind:?}: {header}");
    }
    shown
}

fn check(path: &str, text: &str, expect: &Expect) {
    let language = Language::of(path, text).unwrap();
    expect.assert_eq(&shown(&by_syntax(path, language, text).unwrap()));
}

/// Statements of so many characters that a definition with them is not small.
fn filling(statement: &str, times: usize) -> String {
    format!("{statement}\n").repeat(times)
}

#[test]
fn rust_keeps_functions_with_their_remarks_and_says_what_they_are_in() {
    let work = filling("        self.turn(blade, of, the, fan, by, one, notch, and, wait);", 3);
    let text = format!(
        "//! A fan.\nuse std::io;\n\n/// Blows.\n#[derive(Debug)]\npub struct Fan {{\n    speed: u8,\n}}\n\n\
         impl Fan {{\n    /// Faster.\n    pub fn faster(&mut self) {{\n{work}    }}\n\n    \
         fn slower(&mut self) {{\n{work}    }}\n}}\n\nimpl Drop for Fan {{\n    fn drop(&mut self) {{\n{}    }}\n}}\n",
        filling(
            "        self.brake(hard, and, tell, whoever, wants, to, know, that, it, ends);",
            30
        ),
    );
    check(
        "src/fan.rs",
        &text,
        &expect![[r#"
        1-8 Type: src/fan.rs > Fan
        10-23 Type: src/fan.rs > Fan
        25-45 Function: src/fan.rs > Drop for Fan > drop
        46-58 Function: src/fan.rs > Drop for Fan > drop
    "#]],
    );
}

#[test]
fn python_keeps_decorators_and_cuts_long_classes_by_method() {
    let body = filling("        self.heat(degrees=1, reason='because it was asked for')", 12);
    let text = format!(
        "import os\n\n\n@dataclass\nclass Oven:\n    degrees: int = 0\n\n    # Warmer.\n    @property\n    \
         def warmer(self):\n{body}\n    def colder(self):\n{body}\n\ndef bake():\n    return Oven()\n"
    );
    check(
        "oven.py",
        &text,
        &expect![[r#"
        1-1 Rest: oven.py
        4-6 Rest: oven.py > Oven
        8-22 Function: oven.py > Oven > warmer
        24-36 Function: oven.py > Oven > colder
        39-40 Function: oven.py > bake
    "#]],
    );
}

#[test]
fn typescript_knows_functions_that_are_bound_to_a_name() {
    let body = filling("  console.log('the kettle is on and it will be a moment');", 4);
    let text = format!(
        "import {{ x }} from 'y';\n\n/** Boils. */\nexport const boil = async (kettle: Kettle) => {{\n{body}}};\n\n\
         export interface Kettle {{\n  litres: number;\n{}}}\n\nexport default class Stove {{\n  light() {{\n{body}  }}\n}}\n",
        filling("  somethingElseThatAKettleHas: string;", 4),
    );
    check(
        "kettle.ts",
        &text,
        &expect![[r#"
        1-9 Function: kettle.ts > boil
        11-17 Type: kettle.ts > Kettle
        19-26 Type: kettle.ts > Stove
    "#]],
    );
}

#[test]
fn c_and_cpp_find_names_within_declarators_and_conditions() {
    let body = filling("  stir(pot, clockwise, slowly, until, it, is, thick, enough);", 4);
    check(
        "pot.c",
        &format!(
            "#include <stdio.h>\n\n#ifdef HOT\nstatic int *stir_all(struct pot **pots)\n{{\n{body}}}\n#endif\n\n\
             typedef struct pot {{\n{}}} pot_t;\n",
            filling("  int litres_of_something_that_is_in_it;", 5),
        ),
        &expect![[r#"
            1-3 Rest: pot.c
            4-11 Function: pot.c > stir_all
            13-19 Type: pot.c > pot
        "#]],
    );
    check(
        "pot.hpp",
        &format!(
            "namespace kitchen {{\ntemplate <class T>\nT &Pot<T>::stir(T &spoon) const {{\n{body}}}\n\n\
             Pot::~Pot() {{\n{body}}}\n}}\n"
        ),
        &expect![[r#"
            1-8 Function: pot.hpp > kitchen > Pot<T>::stir
            10-16 Function: pot.hpp > kitchen > Pot::~Pot
        "#]],
    );
}

#[test]
fn go_java_csharp_ruby_and_bash_have_their_definitions() {
    let body = filling("    serve(table, plates, glasses, and, everything, that, is, ready);", 4);
    check(
        "a.go",
        &format!(
            "package a\n\n// Serves.\nfunc (w *Waiter) Serve() {{\n{body}}}\n\ntype Waiter struct {{\n{}}}\n",
            filling("    NameOfSomethingThatIsCarried string", 5)
        ),
        &expect![[r#"
            1-9 Function: a.go > Waiter.Serve
            11-17 Type: a.go > Waiter
        "#]],
    );
    check(
        "A.java",
        &format!(
            "package a;\n\npublic class A {{\n    @Override\n    public void serve() {{\n{body}    }}\n}}\n"
        ),
        &expect![[r#"
            1-11 Type: A.java > A
        "#]],
    );
    check(
        "A.cs",
        &format!("namespace N {{\n  class A {{\n    void Serve() {{\n{body}    }}\n  }}\n}}\n"),
        &expect![[r#"
            1-10 Type: A.cs > N > A
        "#]],
    );
    check(
        "a.rb",
        &format!(
            "module M\n  class A\n    def serve(x)\n{}    end\n  end\nend\n",
            filling("      serve_the_table_with_everything_that_is_ready(x)", 5)
        ),
        &expect![[r#"
            1-11 Type: a.rb > M > A
        "#]],
    );
    check(
        "a.sh",
        &format!("#!/bin/bash\nset -e\n\n# Serves.\nserve() {{\n{body}}}\n\nserve \"$@\"\n"),
        &expect![[r#"
            1-12 Function: a.sh > serve
        "#]],
    );
}

#[test]
fn documents_and_settings_are_cut_by_their_sections() {
    let words = filling("Words about the menu that a guest reads before anything else comes.", 4);
    check(
        "menu.md",
        &format!("Before.\n\n# Menu\n\n{words}\n## Soup\n\n{words}\n## Bread\n\n{words}\n"),
        &expect![[r#"
            1-22 Section: menu.md > Menu
        "#]],
    );
    check(
        "menu.toml",
        &format!(
            "title = 'menu'\n\n[soup]\n{}\n[bread.rye]\n{}",
            filling("price_of_a_plate_of_it = 3", 8),
            filling("price_of_a_slice_of_it = 1", 8)
        ),
        &expect![[r#"
            1-11 Section: menu.toml > soup
            13-21 Section: menu.toml > bread.rye
        "#]],
    );
    check(
        "menu.yaml",
        &format!(
            "soup:\n{}bread:\n{}",
            filling("  - a long description of this soup", 6),
            filling("  - a long description of this bread", 6)
        ),
        &expect![[r#"
            1-7 Section: menu.yaml > soup
            8-14 Section: menu.yaml > bread
        "#]],
    );
    check(
        "menu.json",
        &format!(
            "{{\n  \"soup\": [\n{}    1],\n  \"bread\": [\n{}    2]\n}}\n",
            filling("    \"a long description of this soup\",", 6),
            filling("    \"a long description of this bread\",", 6)
        ),
        &expect![[r#"
            1-9 Section: menu.json > soup
            10-18 Section: menu.json > bread
        "#]],
    );
}

#[test]
fn what_is_broken_is_cut_nevertheless() {
    let body = filling("    let water = boil(water, until, it, is, hot, enough, for, tea);", 3);
    let text =
        format!("fn fine() {{\n{body}}}\n\nfn broken( {{\n{body}\n\nfn also_fine() {{\n{body}}}\n");
    let chunks = by_syntax("tea.rs", Language::Rust, &text).unwrap();
    assert!(chunks.iter().any(|chunk| chunk.names.contains(&"fine".to_owned())), "{chunks:?}");
    assert_whole(&text, &chunks);
}

#[test]
fn a_long_function_is_cut_between_statements_and_keeps_its_name() {
    let text =
        format!("def long():\n{}", filling("    x = compute(\n        'something', 'else')", 100));
    let chunks = by_syntax("long.py", Language::Python, &text).unwrap();
    assert!(chunks.len() > 2);
    for chunk in &chunks {
        assert_eq!(chunk.names, ["long"]);
        assert!(length(&chunk.text) <= LONGEST);
    }
    for chunk in &chunks[1..] {
        assert!(chunk.text.starts_with("    x = "), "{:?}", chunk.text.lines().next());
    }
    assert_whole(&text, &chunks);
}

#[test]
fn every_name_belongs_to_the_chunk_in_which_it_stands() {
    let body =
        filling("    pour(milk, slowly); // and wait until it is as warm as it should be", 4);
    let text = format!(
        "use kitchen::Cup;\n\n/// Warm.\nfn warm(cup: Cup) {{\n{body}    warm(again)\n}}\n\n\
         fn cold() -> Spoon {{\n{body}    stir::<u8>(clockwise(3))\n}}\n"
    );
    let chunks = by_syntax("milk.rs", Language::Rust, &text).unwrap();
    let named = |chunk: &Chunk| {
        let defines: Vec<_> =
            chunk.defines.iter().map(|at| format!("{}+{}", at.name, at.line)).collect();
        format!("{} | {}", defines.join(" "), chunk.uses.join(" "))
    };
    let named: Vec<_> = chunks.iter().map(named).collect();
    assert_eq!(named, ["warm+3 | Cup pour", "cold+0 | Spoon clockwise pour stir"]);
}

#[test]
fn a_chunk_has_so_many_names_and_no_more() {
    let text: String = (0..500).map(|number| format!("a{number}();")).collect();
    let chunks = by_syntax("many.rs", Language::Rust, &format!("fn all() {{ {text} }}\n")).unwrap();
    assert_eq!((chunks.len(), chunks[0].uses.len()), (1, MOST_NAMES));
}

fn length(text: &str) -> usize {
    text.chars().filter(|char| !char.is_whitespace()).count()
}

/// Every line that is not blank is in one chunk, in order, as it was.
fn assert_whole(text: &str, chunks: &[Chunk]) {
    let lines: Vec<_> = text.split('\n').collect();
    let said: String = chunks
        .iter()
        .flat_map(|chunk| chunk.text.chars())
        .filter(|char| !char.is_whitespace())
        .collect();
    let all: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    assert_eq!(said, all);
    for pair in chunks.windows(2) {
        let same = pair[0].first_line == pair[1].first_line;
        assert!(same || pair[0].last_line < pair[1].first_line, "{pair:?}");
    }
    for chunk in chunks {
        let of_file = lines[chunk.first_line as usize - 1..chunk.last_line as usize].join("\n");
        assert!(of_file.contains(&chunk.text));
        assert!(chunk.text.len() <= LONGEST_TEXT);
        assert!(length(&chunk.text) <= LONGEST || chunk.first_line == chunk.last_line, "{chunk:?}");
    }
}

/// Text that has something of every language in it, broken anywhere.
fn soup() -> impl Strategy<Value = String> {
    let bits = [
        "fn a() {",
        "}",
        "class B:",
        "class C {",
        "\n",
        "\n\n",
        "    ",
        "\t",
        "def d(self):",
        "(",
        ")",
        "namespace n {",
        "#if X",
        "#endif",
        "// remark",
        "# Heading",
        "/*",
        "*/",
        "\"",
        "'",
        "key: value",
        "[table]",
        "{\"k\": 1}",
        "func (r *T) M() {",
        "module M",
        "end",
        "impl X for Y {",
        "#[test]",
        "@decorator",
        "export const f = () => {",
        "template <class T>",
        "; x = y;",
        "日本語",
        "e\u{301}",
    ];
    let bit = prop::sample::select(bits.to_vec());
    prop::collection::vec(bit, 0..200).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_is_lost_and_nothing_is_too_long(text in soup()) {
        for language in Language::ALL {
            assert_whole(&text, &by_syntax("any", language, &text).unwrap());
        }
        assert_whole(&text, &by_lines("any", &text));
    }

    #[test]
    fn nothing_is_lost_of_anything(text in "(?s:.){0,400}".prop_map(|text| text.repeat(3))) {
        assert_whole(&text, &by_lines("any", &text));
        assert_whole(&text, &by_syntax("any", Language::Rust, &text).unwrap());
    }
}
