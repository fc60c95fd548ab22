//! What the tables refuse, and that nothing slips through a changed command line.

use proptest::prelude::*;

use super::*;

fn argv(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

const BUILD: &str = "/opt/bin/trtllm-build --checkpoint_dir C --output_dir E --gemm_plugin float16 \
    --max_batch_size 4 --max_input_len 3072 --max_seq_len 4096 --max_num_tokens 2048 \
    --tokens_per_block 64 --context_fmha enable --use_paged_context_fmha enable \
    --remove_input_padding enable --paged_kv_cache enable --workers 1";
const CONVERT: &str = "/opt/bin/python3 /opt/examples/llama/convert_checkpoint.py --model_dir M \
    --output_dir C --dtype float16 --use_weight_only --weight_only_precision int4_gptq --per_group";

fn refused(tool: Tool, line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{from}");
    check(tool, &argv(&line.replace(from, to))).unwrap_err().to_string()
}

#[test]
fn every_table_is_well_formed() {
    for tool in TOOLS {
        let table = table::of(tool);
        assert!(!table.command.is_empty());
        let flag = |name: &str| name.split(' ').next().unwrap().to_owned();
        for name in
            table.required.iter().chain(table.needs.keys()).chain(table.needs.values().flatten())
        {
            assert!(table.flags.contains_key(&flag(name)), "{tool:?} {name}");
        }
        for name in table.refused.keys() {
            assert!(!table.flags.contains_key(name), "{tool:?} {name}");
        }
        for needs in table.needs.keys().chain(table.needs.values().flatten()) {
            let Some((name, value)) = needs.split_once(' ') else { continue };
            assert!(table.flags[name].accepts(value), "{tool:?} {needs}");
        }
    }
}

#[test]
fn nvidias_own_example_passes() {
    assert_eq!(check(Tool::TrtllmBuild, &argv(BUILD)), Ok(()));
    assert_eq!(check(Tool::ConvertLlama, &argv(CONVERT)), Ok(()));
}

#[test]
fn a_wrong_build_is_refused_with_the_reason() {
    let refused = |from, to| refused(Tool::TrtllmBuild, BUILD, from, to);
    for (from, to, reason) in [
        ("/opt/bin/trtllm-build", "trtllm", "does not begin with trtllm-build"),
        ("--workers 1", "--workers", "--workers has no value"),
        ("--workers 1", "--workers 0", r#"--workers is "0", not a count from 1"#),
        ("--workers 1", "--workers many", r#"--workers is "many", not a count from 1"#),
        ("--workers 1", "--worker 1", "--worker is not one of its flags"),
        ("--workers 1", "--workers=1", "--workers=1 is not one of its flags"),
        ("--workers 1", "--workers 1 1", "has 1 arguments beside its flags, not 0"),
        ("--workers 1", "--workers 1 --workers 1", "--workers is there twice"),
        (
            "--workers 1",
            "--tp_size 1",
            "--tp_size must not be used: TensorRT-LLM 0.12.0 no longer has it",
        ),
        (
            "--workers 1",
            "--fast_build",
            "--fast_build must not be used: it does not go with 8 and 4 bits",
        ),
        (
            "--workers 1",
            "--use_fused_mlp",
            "--use_fused_mlp must not be used: builds of 0.12 differ in whether it takes a value",
        ),
        (
            "--tokens_per_block 64",
            "--tokens_per_block 65",
            r#"--tokens_per_block is "65", not a power of two"#,
        ),
        (
            "--gemm_plugin float16",
            "--gemm_plugin fp8",
            "--gemm_plugin is \"fp8\", not auto or float16 or float32 or bfloat16 or int32 or disable",
        ),
        (
            "--paged_kv_cache enable",
            "--paged_kv_cache disable",
            "--use_paged_context_fmha enable needs --paged_kv_cache enable",
        ),
        ("--output_dir E ", "", "--output_dir is missing"),
        ("--max_num_tokens 2048", "--max_draft_len 1", "--max_num_tokens is missing"),
    ] {
        assert_eq!(refused(from, to), reason, "{to}");
    }
}

#[test]
fn a_wrong_conversion_is_refused_with_the_reason() {
    let refused = |from, to| refused(Tool::ConvertLlama, CONVERT, from, to);
    for (from, to, reason) in [
        (
            "examples/llama",
            "examples/phi",
            "does not begin with python3 examples/llama/convert_checkpoint.py",
        ),
        (" --per_group", "", "--weight_only_precision int4_gptq needs --per_group"),
        (" --use_weight_only", "", "--weight_only_precision needs --use_weight_only"),
        ("int4_gptq", "int8", "--per_group needs --weight_only_precision int4_gptq"),
        (
            "--dtype float16",
            "--dtype fp16",
            r#"--dtype is "fp16", not float32 or bfloat16 or float16"#,
        ),
        (
            "--per_group",
            "--per_group --int8_kv_cache",
            "--int8_kv_cache must not be used: it calibrates, which needs the whole model in memory and a data set from the network",
        ),
    ] {
        assert_eq!(refused(from, to), reason, "{to}");
    }
    let phi = CONVERT.replace("llama", "phi").replace("int4_gptq --per_group", "int4_gptq");
    let fault = check(Tool::ConvertPhi, &argv(&phi)).unwrap_err().to_string();
    assert_eq!(fault, r#"--weight_only_precision is "int4_gptq", not int8 or int4"#);
}

#[test]
fn positional_arguments_are_counted_and_typed() {
    let quantise = |line| check(Tool::EngineWorker, &argv(line));
    assert_eq!(quantise("bin/engine-worker quantise a.gguf b.gguf --to Q4_K_M"), Ok(()));
    let fault = quantise("bin/engine-worker quantise a.gguf --to Q4_K_M").unwrap_err();
    assert_eq!(fault, Fault::Arguments { given: 1, wanted: 2 });
    let table: table::Table =
        toml::from_str("command = [\"x\"]\npositionals = [[\"a\", \"b\"]]").unwrap();
    let given = |line: &str| {
        let argv = argv(line);
        Given::read(&table, &argv).unwrap().positionals(&table).map_err(|fault| fault.to_string())
    };
    assert_eq!(given("b"), Ok(()));
    assert_eq!(given("c").unwrap_err(), r#"an argument is "c", not a or b"#);
}

/// An argument that may be anything, or one that a table knows.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        "(?s).{0,12}",
        "-{0,2}[a-z_]{1,12}",
        (0i64..9000).prop_map(|number| number.to_string()),
        proptest::sample::select(argv(&format!("{BUILD} {CONVERT} --tp_size --fast_build -1"))),
    ]
}

/// Whether a command line that passed keeps to the table, looked at in the
/// plainest way.
fn keeps_to(tool: Tool, argv: &[String]) -> bool {
    let table = table::of(tool);
    let arguments = &argv[table.command.len()..];
    let is_flag =
        |argument: &&String| argument.starts_with('-') && argument.parse::<f64>().is_err();
    let flags: Vec<&String> = arguments.iter().filter(is_flag).collect();
    let once = flags.iter().all(|flag| flags.iter().filter(|other| other == &flag).count() == 1);
    let required = table.required.iter().all(|flag| flags.contains(&flag));
    let known = flags
        .iter()
        .all(|flag| table.flags.contains_key(*flag) && !table.refused.contains_key(*flag));
    let valued = arguments.windows(2).all(|pair| match table.flags.get(&pair[0]) {
        Some(kind) if kind.most_values() == 1 => kind.accepts(&pair[1]),
        _ => true,
    });
    let not_last = arguments
        .last()
        .is_none_or(|last| table.flags.get(last).is_none_or(|kind| kind.most_values() == 0));
    once && required && known && valued && not_last
}

proptest! {
    #[test]
    fn a_changed_command_line_is_refused_or_still_keeps_to_the_table(
        convert in any::<bool>(), at in 0..40usize, with in argument(), how in 0..4u8,
    ) {
        let (tool, line) =
            if convert { (Tool::ConvertLlama, CONVERT) } else { (Tool::TrtllmBuild, BUILD) };
        let mut changed = argv(line);
        let at = at % changed.len();
        match how {
            0 => changed[at] = with,
            1 => changed.insert(at, with),
            2 => { changed.remove(at); }
            _ => changed.swap(at, 1),
        }
        if check(tool, &changed).is_ok() {
            prop_assert!(keeps_to(tool, &changed), "{changed:?}");
        }
    }

    #[test]
    fn no_command_line_makes_the_check_panic(
        tool in proptest::sample::select(TOOLS.to_vec()),
        arguments in proptest::collection::vec(argument(), 0..12),
    ) {
        let mut argv = table::of(tool).command;
        argv.extend(arguments);
        if check(tool, &argv).is_ok() {
            prop_assert!(keeps_to(tool, &argv), "{argv:?}");
        }
    }
}
