//! Every model on every board under every release, and what must hold of all
//! plans whatever is asked.

use std::fmt::Write as _;

use expect_test::expect_file;
use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::flags;

const RELEASES: [&str; 4] = ["6.0", "6.1", "6.2", "7.2"];

fn setting(board: Board, jetpack: &str, wishes: Wishes) -> Setting {
    let places = Places {
        state_dir: "/var/lib/stoker".into(),
        cache_dir: "/var/cache/stoker".into(),
        runtimes_dir: RUNTIMES.into(),
    };
    let release = (board.class != Class::Pc).then(|| Release::named(jetpack).unwrap());
    Setting { board, release, wishes, places }
}

fn plan(model: &str, board: &str, jetpack: &str, wishes: Wishes) -> Result<BoardPlan, Refusal> {
    let catalogue = Catalogue::built_in();
    let setting = setting(Board::named(board).unwrap(), jetpack, wishes);
    choose(catalogue.find(model).unwrap(), &setting)
}

/// One line of the table.
fn summary(outcome: &Result<BoardPlan, Refusal>) -> String {
    match outcome {
        Ok(plan) => {
            // llama.cpp's version changes with the workspace, and no plan with it.
            let version = match plan.backend {
                Backend::LlamaCpp => String::new(),
                _ => format!(" {}", plan.version),
            };
            let what = match plan.speed {
                Some(speed) => {
                    format!(
                        "{:.0}-{:.0} tokens/s",
                        speed.least_tokens_per_s, speed.most_tokens_per_s
                    )
                }
                None => format!("vectors of {}", plan.dimension.expect("answers have a speed")),
            };
            format!(
                "{}{version} {}, {} x {} tokens, {} of {}, {what}",
                plan.backend,
                plan.quantisation,
                plan.sizes.users,
                plan.sizes.context,
                plan.memory.needed(),
                plan.memory.budget_bytes,
            )
        }
        Err(Refusal::Nowhere(rejected)) => {
            let last = rejected.last().expect("a refusal has a reason");
            format!("none; {}: {}", last.backend, last.why)
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// One line of the table.
fn embedder_summary(entry: &crate::embedder::Entry, setting: &Setting) -> String {
    let Setting { board, release, places, wishes } = setting;
    let context = embedder_context(entry, wishes).unwrap();
    match embedder(entry, context, board, release.as_ref(), places) {
        Ok(plan) => format!(
            "{} {}, {context} tokens, {} of {}",
            plan.backend,
            plan.quantisation,
            plan.memory.needed(),
            plan.memory.budget_bytes
        ),
        Err(why) => format!("none; {why}"),
    }
}

#[test]
fn every_model_has_a_plan_or_a_refusal_on_every_board_and_release() {
    let catalogue = Catalogue::built_in();
    let mut table = String::new();
    for entry in catalogue.entries() {
        for board in Board::all() {
            for jetpack in RELEASES {
                let outcome = choose(entry, &setting(board.clone(), jetpack, Wishes::default()));
                let place = format!("{} {} {jetpack}", entry.id, board.name);
                writeln!(table, "{place}: {}", summary(&outcome)).unwrap();
            }
        }
    }
    for entry in crate::embedder::entries() {
        for board in Board::all() {
            for jetpack in RELEASES {
                let setting = setting(board.clone(), jetpack, Wishes::default());
                let place = format!("{} {} {jetpack}", entry.id, board.name);
                writeln!(table, "{place}: {}", embedder_summary(entry, &setting)).unwrap();
            }
        }
    }
    expect_file!["../../tests/golden/plans.txt"].assert_eq(&table);
}

/// Wishes that lead through every branch of the command lines.
fn some_wishes() -> Vec<Wishes> {
    let backends = BACKENDS.iter().map(|backend| Some(*backend)).chain([None]);
    backends
        .flat_map(|backend| {
            [(None, None), (Some(3000), None), (None, Some(1)), (Some(4096), Some(9))]
                .map(|(context, users)| Wishes { backend, context, users, form: None })
        })
        .collect()
}

#[test]
fn every_command_line_of_every_plan_is_one_that_its_tool_takes() {
    let catalogue = Catalogue::built_in();
    let mut seen = std::collections::BTreeSet::new();
    let mut checked = 0;
    for entry in catalogue.entries().iter().chain(&checkpoints_only()) {
        for board in Board::all().chain([Board::pc(Bytes::from_kib(16 << 20))]) {
            for (jetpack, wishes) in
                RELEASES.iter().flat_map(|on| some_wishes().into_iter().map(move |w| (*on, w)))
            {
                let Ok(plan) = choose(entry, &setting(board.clone(), jetpack, wishes)) else {
                    continue;
                };
                assert!(plan.memory.needed() <= plan.memory.budget_bytes, "{plan:?}");
                for step in &plan.steps {
                    assert_eq!(step.tool.is_none(), step.argv.is_empty(), "{step:?}");
                    let Some(tool) = step.tool else { continue };
                    flags::check(tool, &step.argv)
                        .unwrap_or_else(|fault| panic!("{fault}: {:?}", step.argv));
                    seen.insert(tool);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 1000, "{checked}");
    let unused: Vec<_> = flags::TOOLS.into_iter().filter(|tool| !seen.contains(tool)).collect();
    assert_eq!(unused, []);
}

/// The catalogue's models as users might write them: no quantised source.
fn checkpoints_only() -> Vec<Entry> {
    let mut entries = Catalogue::built_in().entries().to_vec();
    for entry in &mut entries {
        let checkpoint = entry.source.checkpoint.clone();
        entry.source = crate::catalogue::Sources { checkpoint, ..Default::default() };
    }
    entries
}

#[test]
fn a_plan_in_full_for_each_backend() {
    let wishes = Wishes::default();
    for (file, model, board, jetpack) in [
        ("tensorrt-llm", "llama3", "agx-orin-64gb", "6.1"),
        ("tensorrt-edge-llm-0.8.0", "qwen3:4b", "orin-nano-8gb-super", "6.2"),
        ("tensorrt-edge-llm-0.11.0", "qwen3:8b", "orin-nx-16gb", "7.2"),
        ("llama-cpp", "deepseek-coder:6.7b", "orin-nx-16gb", "6.0"),
        ("checkpoint", "deepseek-coder:6.7b", "orin-nx-16gb", "6.0"),
    ] {
        let form = (file == "checkpoint").then_some(Form::Checkpoint);
        let plan = plan(model, board, jetpack, Wishes { form, ..wishes }).unwrap();
        let path = format!("{}/tests/golden/plan-{file}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = text(&plan).replace(crate::plan::LLAMA_CPP, "VERSION");
        expect_file![path].assert_eq(&format!("{text}\n"));
    }
}

#[test]
fn a_wish_that_cannot_be_granted_is_refused_with_what_can() {
    let wish = |context, users| Wishes { context, users, ..Wishes::default() };
    let refused = |outcome: Result<BoardPlan, Refusal>| match outcome.unwrap_err() {
        Refusal::Wish(what) | Refusal::Release(what) => what,
        Refusal::Nowhere(rejected) => rejected.last().unwrap().why.clone(),
    };
    let large = plan("phi3", "agx-orin-64gb", "6.2", wish(Some(5000), None));
    assert!(refused(large).contains("more than the 4096 tokens"));
    let small = plan("phi3", "agx-orin-64gb", "6.2", wish(Some(5), None));
    assert!(refused(small).contains("less than the 256 tokens"));
    let many = plan("phi3", "orin-nano-8gb", "6.2", wish(None, Some(4)));
    assert!(refused(many).ends_with("--users 3 would fit"));
    let long = plan("qwen2.5-coder:7b", "orin-nano-8gb", "6.2", wish(Some(32768), None));
    assert!(refused(long).ends_with("a shorter --context would fit"));
    let bad = plan("phi3", "agx-orin-64gb", "36.4.7", wish(None, None));
    assert!(refused(bad).contains("update to L4T 36.5.0"));
}

#[test]
fn a_window_that_one_backend_would_compute_wrong_goes_to_another() {
    let within = Wishes { context: Some(8192), ..Wishes::default() };
    let beyond = Wishes { context: Some(16384), ..Wishes::default() };
    let edge = Wishes { backend: Some(Backend::TensorrtEdgeLlm), ..within };
    assert!(plan("llama3.2:3b", "agx-orin-64gb", "6.2", edge).is_ok());
    let plan_beyond = plan("llama3.2:3b", "agx-orin-64gb", "6.2", beyond).unwrap();
    assert_eq!(plan_beyond.backend, Backend::LlamaCpp);
    let said: Vec<&str> = plan_beyond.rejected.iter().map(|no| no.why.as_str()).collect();
    assert!(said.iter().any(|why| why.contains("right only within 8192 tokens")), "{said:?}");
}

#[test]
fn a_checkpoint_in_act_order_is_not_used() {
    let catalogue = Catalogue::built_in();
    let mut entry = catalogue.find("llama3").unwrap().clone();
    entry.source.gptq.as_mut().unwrap().act_order = Some(true);
    let board = || Board::named("agx-orin-64gb").unwrap();
    let plan = choose(&entry, &setting(board(), "6.2", Wishes::default())).unwrap();
    assert_eq!(plan.quantisation, "INT4-AWQ");
    entry.source.gptq.as_mut().unwrap().act_order = Some(false);
    let plan = choose(&entry, &setting(board(), "6.2", Wishes::default())).unwrap();
    assert_eq!(plan.quantisation, "INT4-GPTQ");
    assert!(!plan.cautions.iter().any(|caution| caution.contains("act order")));
}

#[test]
fn smaller_models_are_offered_where_one_does_not_fit() {
    let catalogue = Catalogue::built_in();
    let setting = setting(Board::named("orin-nano-4gb").unwrap(), "6.2", Wishes::default());
    let large = catalogue.find("llama3").unwrap();
    let offered = alternatives(&catalogue, large, &setting, 2);
    let names: Vec<&str> = offered.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(names, ["llama-3.2-1b-instruct", "qwen3-0.6b"]);
}

#[test]
fn an_embedder_has_one_way_and_a_refusal_where_it_does_not_fit() {
    let entry = crate::embedder::find("all-minilm").unwrap();
    let setting = setting(Board::named("orin-nano-4gb").unwrap(), "6.0", Wishes::default());
    let of = |board: &Board| {
        embedder(entry, entry.context, board, setting.release.as_ref(), &setting.places)
    };
    let plan = of(&setting.board).unwrap();
    for step in plan.steps.iter().filter(|step| step.tool.is_some()) {
        flags::check(step.tool.unwrap(), &step.argv).unwrap();
    }
    let text = embedder_text(&plan).replace(engine_api::manifest::RTEN, "rten VERSION");
    expect_file!["../../tests/golden/plan-embedder.txt"].assert_eq(&format!("{text}\n"));
    let small = setting.board.clone().with_memory(Bytes::from_kib(1024 * 1024));
    let refused = of(&small).unwrap_err();
    assert!(refused.starts_with("all-minilm-l6-v2 has no plan on orin-nano-4gb: "), "{refused}");
    let wish = |wishes: Wishes| embedder_context(entry, &wishes).unwrap_err().to_string();
    let context = Some(513);
    assert!(wish(Wishes { context, ..Wishes::default() }).contains("the model's 512 tokens"));
    assert!(wish(Wishes { users: Some(2), ..Wishes::default() }).contains("neither users"));
    let backend = Some(Backend::LlamaCpp);
    assert!(wish(Wishes { backend, ..Wishes::default() }).contains("leave --backend and --form"));
}

/// A captured tree with these files.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

const MEMINFO: (&str, &str) = (
    "proc/meminfo",
    "MemTotal: 7000000 kB\nMemAvailable: 6000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
);

#[test]
fn a_captured_board_is_read_with_its_own_memory_and_release() {
    let nano = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0";
    let release = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic\n";
    let captured =
        tree(&[MEMINFO, ("proc/device-tree/compatible", nano), ("etc/nv_tegra_release", release)]);
    let (board, l4t) = Board::read(jetpack::Root::new(captured.path())).unwrap();
    assert_eq!((board.name.as_str(), board.super_mode), ("orin-nano-8gb-super", true));
    assert_eq!(
        (board.memory_bytes, board.memory_is),
        (Bytes::from_kib(7_000_000), Origin::Measured)
    );
    assert!(Release::of(l4t.unwrap()).unwrap().fault().is_some());
}

#[test]
fn a_machine_that_is_no_known_jetson_is_told_apart() {
    let pc = tree(&[MEMINFO]);
    let (board, l4t) = Board::read(jetpack::Root::new(pc.path())).unwrap();
    assert_eq!((board.class, l4t), (Class::Pc, None));
    let thor = tree(&[MEMINFO, ("proc/device-tree/compatible", "nvidia,p3834\0nvidia,tegra264\0")]);
    let unknown = Board::read(jetpack::Root::new(thor.path())).unwrap_err();
    assert!(matches!(&unknown, Error::Unsupported(what) if what.contains("nvidia,p3834")));
    let empty = Board::read(jetpack::Root::new("/nowhere")).unwrap_err();
    assert!(empty.to_string().contains("does not tell its memory"));
}

proptest! {
    #[test]
    fn no_plan_takes_more_than_the_board_can_give(
        model in 0..16usize, board in 0..8usize, jetpack in 0..RELEASES.len(),
        memory_mib in 0u64..200_000, context in proptest::option::of(1u32..200_000),
        users in proptest::option::of(1u16..250), backend in 0..4usize,
    ) {
        let catalogue = Catalogue::built_in();
        let entry = &catalogue.entries()[model];
        let memory = Bytes::from_kib(memory_mib * 1024);
        let board = Board::all().nth(board).unwrap().with_memory(memory);
        let wishes = Wishes { backend: BACKENDS.get(backend).copied(), context, users, form: None };
        let setting = setting(board, RELEASES[jetpack], wishes);
        if let Ok(plan) = choose(entry, &setting) {
            prop_assert!(plan.memory.needed() <= plan.memory.budget_bytes);
            prop_assert!(plan.memory.budget_bytes <= memory);
            prop_assert!(plan.sizes.context <= plan.backend.longest_context(entry));
            prop_assert!(context.is_none_or(|context| plan.sizes.context == context));
            prop_assert!(users.is_none_or(|users| plan.sizes.users == users));
            prop_assert!(wishes.backend.is_none_or(|backend| plan.backend == backend));
        }
    }
}
