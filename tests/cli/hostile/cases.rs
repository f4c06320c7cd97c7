//! `case.json`: JSON at its limits, and values that nothing can be computed of.

use std::fs;
use std::os::unix::fs::symlink;

use crate::command::{Scratch, data};
use crate::hostile::fixture::Victim;
use crate::hostile::kinds::golden;

fn stored(case: &str) -> String {
    fs::read_to_string(data(case).join("case.json")).expect("a stored case")
}

#[test]
fn json_at_its_limits() {
    let victim = golden("cases-json", "case.json", "maxpool_2x2_s2");
    for (what, text, word) in [
        (
            "a name twice",
            "{\"op\": \"relu\", \"op\": \"tanh\"}",
            "\"op\" stands twice",
        ),
        ("a number beyond f64", "{\"op\": 1e999}", "out of range"),
        (
            "a number of 100,000 digits",
            &format!("[{}]", "9".repeat(100_000)),
            "out of range",
        ),
        (
            "objects 100,000 deep",
            &"{\"a\":".repeat(100_000),
            "recursion limit",
        ),
        ("half a surrogate", "{\"op\": \"\\ud800\"}", "hex escape"),
        ("a byte of 0", "{\"op\": \"\0\"}", "control character"),
        ("more behind it", "{} {}", "trailing characters"),
        (
            "5 MB",
            &format!("[{}0]", "0,".repeat(5 << 19)),
            "4194304 bytes",
        ),
    ] {
        victim.write(text);
        victim.refuses(what, &[word]);
    }
    // Each small object takes some hundred bytes.
    victim.write(format!("[{}0]", "{\"a\":0},".repeat(500_000)));
    assert_eq!(victim.run("many objects").code, Some(2));
}

/// Each meaning is printed, or the case is skipped as too large.
#[test]
fn values_that_nothing_can_be_computed_of() {
    const MUCH: &str = "1152921504606846976";
    let table: [(&str, &str, &str, i32, &str); 13] = [
        (
            "maxpool_2x2_s2",
            "\"kernel\": [\n   2",
            &format!("\"kernel\": [\n   {MUCH}"),
            1,
            MUCH,
        ),
        (
            "maxpool_2x2_s2",
            "\"kernel\": [\n   2",
            "\"kernel\": [\n   0",
            1,
            "the height of the window is 0; it must be at least 1",
        ),
        (
            "maxpool_2x2_s2",
            "\"stride\": [\n   2",
            "\"stride\": [\n   0",
            1,
            "stride",
        ),
        (
            "maxpool_2x2_s2",
            "\"stride\": [\n   2",
            "\"stride\": [\n   -2",
            2,
            "-2",
        ),
        (
            "conv_2x4_even",
            "\"pad\": [\n   0",
            &format!("\"pad\": [\n   {MUCH}"),
            1,
            "the padded input",
        ),
        (
            "conv_2x4_even",
            "\"pad\": [\n   0",
            "\"pad\": [\n   100000000",
            0,
            "--max-elements",
        ),
        (
            "conv_2x4_even",
            "\"groups\": 1",
            "\"groups\": 0",
            1,
            "groups",
        ),
        (
            "conv_2x4_even",
            "\"groups\": 1",
            &format!("\"groups\": {MUCH}"),
            1,
            MUCH,
        ),
        (
            "adaptive_avgpool_7_to_3",
            "\"out\": [\n   3",
            "\"out\": [\n   2000000000",
            0,
            "--max-elements",
        ),
        (
            "adaptive_avgpool_7_to_3",
            "\"out\": [\n   3",
            &format!("\"out\": [\n   {MUCH}"),
            1,
            MUCH,
        ),
        (
            "lrn_size3_c2",
            "\"size\": 3",
            &format!("\"size\": {MUCH}"),
            1,
            "size",
        ),
        (
            "conv_2x4_even",
            "\"op\": \"conv2d\"",
            &format!("\"op\": \"conv2d{}\"", "+relu".repeat(100_000)),
            2,
            "100001 parts",
        ),
        (
            "fused_conv_add_groups2_s2",
            "\"f32\": {",
            "\"f33\": {",
            1,
            "there is no rule for f32",
        ),
    ];
    for (case, from, to, code, word) in table {
        let victim = golden("cases-values", "case.json", case);
        let text = stored(&format!("golden/{case}"));
        assert!(text.contains(from), "{case} has no {from}");
        victim.write(text.replacen(from, to, 1));
        let run = victim.run(to);
        assert_eq!(run.code, Some(code), "{case}, {from} as {word}: {run:?}");
        assert!(
            run.out.contains(word) && run.out.contains("case"),
            "{case}: {run:?}"
        );
    }
}

#[test]
fn cases_that_compare_with_nothing() {
    let victim = {
        let scratch = Scratch::new("cases-nothing");
        crate::hostile::fixture::copy(
            "onnx/2d/node__test_basic_conv_with_padding",
            &scratch.0.join("case"),
        );
        Victim::new(scratch, "case/case.json", &["verify", "@/case"])
    };
    let text = stored("onnx/2d/node__test_basic_conv_with_padding");
    let (before, _) = text.split_once("\"outputs\": [").expect("outputs");
    victim.write(format!("{before}\"outputs\": []}}"));
    let run = victim.run("no outputs");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.out.contains("nothing to compare"), "{run:?}");
}

/// Thirty links in each folder to the folder itself: 30^8 ways to the same case.
#[test]
fn folders_that_hold_themselves() {
    let scratch = Scratch::new("cases-links");
    let folder = scratch.0.join("all");
    crate::hostile::fixture::copy("golden/maxpool_2x2_s2", &folder.join("case"));
    for link in 0..30 {
        symlink(&folder, folder.join(format!("link{link}"))).expect("a link");
    }
    let args = ["verify", "@/all", "--dtype", "f32", "--layout", "nchw"];
    let victim = Victim::new(scratch, "all/case/case.json", &args);
    victim.accepts();
}
