//! Texts that are built to make parsing or lowering take long, or much.

use super::{kernel, text};
use crate::limited;
use ptx_emulator::{LoadError, Module};
use std::time::Duration;

/// A text that is built to make parsing or lowering take long, or much.
fn check(name: &str, text: &str) -> Result<Module, LoadError> {
    limited::begin(0);
    let (start, before) = (limited::processor_time(), limited::peak());
    let result = Module::parse(text);
    let (taken, held) = (
        limited::processor_time().saturating_sub(start),
        limited::peak() - before,
    );
    assert!(taken < Duration::from_secs(20), "{name}: {taken:?}");
    assert!(held < 768 << 20, "{name}: {held} bytes");
    if let Err(error) = &result {
        assert!(!error.message.contains("internal error"), "{name}: {error}");
    }
    result
}

#[test]
fn no_text_makes_lowering_explode() {
    own_process!();
    let many =
        |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let straight = many(100_000, &|i| {
        format!("add.s32 %r{}, %r{}, {};\n", i % 8, i % 7, i % 500)
    });
    check("straight", &kernel(&straight)).expect("100,000 lines");
    let labels = many(10_000, &|i| {
        format!("L{i}:\n@%p1 bra L{};\n", i * 7919 % 10_000)
    });
    check("labels", &kernel(&labels)).expect("10,000 labels");
    let nested = many(10_000, &|i| {
        format!("@%p1 bra E{i};\nadd.s32 %r2, %r2, 1;\n")
    }) + &many(10_000, &|i| {
        format!("E{}:\nadd.s32 %r3, %r3, %r2;\n", 9_999 - i)
    });
    check("nested", &kernel(&nested)).expect("10,000 branches within each other");
    let targets = (0..10_000)
        .map(|i| format!("X{i}"))
        .collect::<Vec<_>>()
        .join(", ");
    let exits = many(10_000, &|i| format!("X{i}:\nexit;\n"));
    check(
        "exits",
        &kernel(&format!(
            "T: .branchtargets {targets};\nbrx.idx %r1, T;\n{exits}"
        )),
    )
    .expect("10,000 exits");
    let tables = "@%p1 brx.idx %r1, T;\n".repeat(10_000);
    check(
        "tables",
        &kernel(&format!("T: .branchtargets {targets};\n{tables}{exits}")),
    )
    .expect_err("10^8 ways");
    let dead = many(50_000, &|i| format!("add.s32 %q{i}, %q{}, 1;\n", i + 1));
    check("dead", &kernel(&format!(".reg .b32 %q<60000>;\n{dead}"))).expect("nothing is read");
    let circle = many(50_000, &|i| {
        format!("mov.b32 %q{i}, %q{};\n", (i + 1) % 50_000)
    }) + &many(10_000, &|i| format!("st.shared.u32 [0], %q{i};\n"));
    check(
        "circle",
        &kernel(&format!(".reg .b32 %q<60000>;\n{circle}")),
    )
    .expect("a circle of copies");
    let scopes = "{ .reg .b32 %q<1048576>;\n}\n".repeat(50_000);
    check("scopes", &kernel(&scopes)).expect("registers that nobody uses");
    let doubled = many(60, &|i| {
        format!(".func f{}() {{\ncall f{i};\ncall f{i};\nret;\n}}\n", i + 1)
    });
    check(
        "doubled",
        &text(&format!(
            ".func f0() {{ ret; }}\n{doubled}.entry k() {{ call f40; ret; }}"
        )),
    )
    .expect_err("2^40 calls");
    let body = "add.s32 %r1, %r1, 1;\n".repeat(5000);
    let entries = many(2000, &|i| format!(".entry k{i}() {{ call f; ret; }}\n"));
    check(
        "entries",
        &text(&format!(
            ".func f() {{\n.reg .b32 %r<3>;\n{body}ret;\n}}\n{entries}"
        )),
    )
    .expect_err("10^7 instructions");
    let rows = "{},".repeat(10_000);
    check(
        "rows",
        &text(&format!(
            ".global .b8 a[100000][1000] = {{{rows}{{1}}}};\n.entry k() {{ ret; }}"
        )),
    )
    .expect("10 MB of zeros");
    check(
        "long rows",
        &text(&format!(
            ".global .b8 a[20000][1000000] = {{{rows}{{1}}}};\n.entry k() {{ ret; }}"
        )),
    )
    .expect_err("a value 10 GB behind");
    let live = many(20_000, &|i| format!("mov.u32 %q{i}, %clock;\n"))
        + &many(60_000, &|i| {
            format!("@%p1 bra M{i};\nadd.s32 %r1, %r1, 1;\nM{i}:\n")
        })
        + &many(20_000, &|i| format!("st.shared.u32 [0], %q{i};\n"));
    check("live", &kernel(&format!(".reg .b32 %q<30000>;\n{live}")))
        .expect_err("blocks by registers");
}

#[test]
fn nesting_does_not_use_up_the_stack() {
    let deep = |open: &str| open.repeat(200_000);
    let chain: String = (1..5000)
        .map(|i| format!(".func f{i}() {{ call f{}; ret; }}\n", i - 1))
        .collect();
    let texts = [
        kernel(&deep("{")),
        kernel(&format!("add.s32 {}", deep("("))),
        kernel(&format!("call {}", deep("("))),
        kernel(&format!("ld.u32 %r1, {}", deep("["))),
        kernel(&format!("mov.b64 %rd1, {}", deep("{"))),
        text(&format!(".global .u32 a = {}", deep("{"))),
        text(&format!(
            ".global .u32 a{} = {}",
            "[2]".repeat(8),
            deep("{")
        )),
        text(&format!(".global .u32 a{};", deep("[2]"))),
        text(&format!(".entry k({}", deep("("))),
        text(&format!("/*{}*/ .entry k() {{ ret; }}", deep("/*"))),
        text(&format!(
            ".func f0() {{ ret; }}\n{chain}.entry k() {{ call f4999; ret; }}"
        )),
        text(&format!(
            ".func f0() {{ ret; }}\n{chain}.entry k() {{ call f62; ret; }}"
        )),
    ];
    // A quarter of what Rust gives a thread.
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let tried = small.spawn(move || {
        for text in texts {
            if let Err(error) = Module::parse(&text) {
                assert!(!error.message.contains("internal error"), "{error}");
            }
        }
    });
    tried.expect("a thread").join().expect("no panic");
}
