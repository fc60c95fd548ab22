//! What each language defines and uses, and that no file brings too much.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::syntax;

fn check(path: &str, text: &str, expect: &Expect) {
    let language = Language::of(path, text).unwrap();
    let names = syntax::parts(language, text).unwrap().names;
    let of = |is| {
        let those = names.iter().filter(|name| name.is == is);
        those.map(|name| format!("{}:{}", name.name, name.line)).collect::<Vec<_>>().join(" ")
    };
    expect.assert_eq(&format!("{}\n{}\n", of(Is::Defined), of(Is::Used)));
}

#[test]
fn rust_and_go() {
    check(
        "fan.rs",
        "struct Fan { speed: Speed }\nimpl Fan {\n    fn set(&self) -> Self {\n        let a = \
         self.bus.write_all::<u8>(pwm::duty(3));\n        warn!(\"{a}\");\n        go(a)\n    }\n}\n\
         macro_rules! twice { () => {} }\ntrait Cool { fn cool(&self); }\n",
        &expect![[r#"
            Fan:0 set:2 twice:8 Cool:9 cool:9
            Speed:0 Fan:1 write_all:3 duty:3 warn:4 go:5
        "#]],
    );
    check(
        "fan.go",
        "package fan\n\ntype Fan struct{ bus *i2c.Bus }\n\nfunc (f *Fan) Set(duty int) error {\n\t\
         return f.bus.Write(clamp(duty))\n}\n\ntype Cooler interface{ Cool() }\n",
        &expect![[r#"
            Fan:2 Set:4 Cooler:8 Cool:8
            Bus:2 Fan:4 int:4 error:4 Write:5 clamp:5
        "#]],
    );
}

#[test]
fn python_and_ruby() {
    check(
        "oven.py",
        "class Oven(base.Device, Timed):\n    @cached\n    def heat(self, to: Degrees) -> int:\n        \
         return self.relay.close(limit(to))\n",
        &expect![[r#"
            Oven:0 heat:2
            Device:0 Timed:0 cached:1 Degrees:2 int:2 close:3 limit:3
        "#]],
    );
    check(
        "oven.rb",
        "module Kitchen\n  class Oven < Device\n    def heat(to)\n      relay.close(limit(to))\n    end\n  end\nend\n",
        &expect![[r#"
            Kitchen:0 Oven:1 heat:2
            Device:1 close:3 limit:3
        "#]],
    );
}

#[test]
fn javascript_and_typescript() {
    check(
        "kettle.jsx",
        "class Kettle extends Device {\n  boil() { return this.heat(limit(3)); }\n}\nconst pour = (cup) \
         => new Pour(cup);\nfunction View() { return <Kettle.Icon size={1} />; }\n",
        &expect![[r#"
            Kettle:0 boil:1 pour:3 View:4
            Device:0 heat:1 limit:1 Pour:3 Icon:4
        "#]],
    );
    check(
        "kettle.ts",
        "interface Cup { size: Litres }\nabstract class Kettle extends Device<Cup> {\n  abstract boil(): \
         Promise<Cup>;\n}\ntype Litres = number;\nenum Lid { On }\nexport const pour = async (cup: Cup) => tip(cup);\n",
        &expect![[r#"
            Cup:0 Kettle:1 boil:2 Litres:4 Lid:5 pour:6
            Litres:0 Device:1 Cup:1 Promise:2 Cup:2 Cup:6 tip:6
        "#]],
    );
}

#[test]
fn c_and_cpp() {
    check(
        "pot.c",
        "#define HOT(x) (x)\ntypedef struct pot { int litres; } pot_t;\nstatic struct spoon *stir_all(pot_t **pots)\n{\n\
         \treturn pots[0]->ops->stir(find_spoon(pots));\n}\n",
        &expect![[r#"
            HOT:0 pot_t:1 pot:1 stir_all:2
            spoon:2 pot_t:2 stir:4 find_spoon:4
        "#]],
    );
    check(
        "pot.cpp",
        "class Pot : public Vessel { void stir(); };\nusing Pots = std::vector<Pot>;\ntemplate <class T>\nT &Pot::stir(T \
         &spoon) { return turn<T>(kitchen::find(spoon), this->lid.close()); }\n",
        &expect![[r#"
            Pot:0 Pots:1 stir:3
            Vessel:0 vector:1 Pot:1 turn:3 find:3 close:3
        "#]],
    );
}

#[test]
fn java_csharp_and_bash() {
    check(
        "Pan.java",
        "class Pan extends Vessel {\n  Pan() {}\n  @Override\n  Egg fry(Egg egg) { return this.stove.heat(new \
         Fried(egg)); }\n}\n",
        &expect![[r#"
            Pan:0 fry:3
            Vessel:0 Override:2 Egg:3 Egg:3 heat:3 Fried:3
        "#]],
    );
    check(
        "Pan.cs",
        "class Pan : Vessel, IHot {\n  Egg Fry(Egg egg) { return this.stove.Heat<Egg>(new Fried(egg), Turn(egg)); }\n}\n",
        &expect![[r#"
            Pan:0 Fry:1
            Vessel:0 IHot:0 Heat:1 Fried:1 Turn:1
        "#]],
    );
    check(
        "fry.sh",
        "heat() {\n  turn_on \"$1\"\n}\nheat stove | tee log\n",
        &expect![[r#"
            heat:0
            turn_on:1 heat:3 tee:3
        "#]],
    );
}

#[test]
fn documents_have_no_names_and_monstrous_ones_do_not_count() {
    let names = |path: &str, text: &str| {
        let names = syntax::parts(Language::of(path, text).unwrap(), text).unwrap().names;
        names.iter().map(|name| name.name.to_owned()).collect::<Vec<_>>()
    };
    for (path, text) in
        [("a.json", "{\"a\": {\"b\": 1}}"), ("a.md", "# Title\n"), ("a.toml", "[a]\nb = 1\n")]
    {
        assert_eq!(names(path, text), [""; 0]);
    }
    let long = "x".repeat(900_000);
    assert_eq!(names("a.rs", &format!("fn {long}() {{ {long}(); f(); ok() }}")), ["ok"]);
}

#[test]
fn a_file_of_nothing_but_references_is_bounded() {
    let text = format!("fn all() {{\n{}}}\n", "    call_it();\n".repeat(60_000));
    let names = syntax::parts(Rust, &text).unwrap().names;
    assert_eq!(names.len(), MOST);
}

#[test]
fn what_comes_when_the_time_is_over_is_left_out() {
    let text = "fn a() { call(); }\n".repeat(5000);
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&Rust.syntax()).unwrap();
    let tree = parser.parse(&text, None).unwrap();
    let all = of(Rust, &text, tree.root_node(), || false).len();
    assert!(of(Rust, &text, tree.root_node(), || true).len() < all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_it_holds_names_stand_where_they_are_said_to(
        text in "(fn |class |def |[a-z]{1,4}|\\(|\\)|\\{|\\}|;|\n|\\.|::|é|\"){0,60}"
    ) {
        let lines: Vec<_> = text.split('\n').collect();
        for language in Language::ALL {
            for Name { name, line, .. } in syntax::parts(language, &text).unwrap().names {
                prop_assert!(lines[line].contains(name), "{name} is not in line {line}");
            }
        }
    }
}
