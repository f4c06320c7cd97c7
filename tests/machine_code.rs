//! What the assembler makes of the large f32 tiles, where ptxas and nvdisasm are at hand: see
//! `scripts/sass`, which holds every kernel to the same rules in `.ci/run`. Without the tools the
//! test has nothing to look at and passes.

use std::path::Path;
use std::process::Command;

#[test]
fn large_tiles_neither_spill_nor_waste_issue_slots() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sass");
    // The modules that this build embeds.
    let ptx = concat!(env!("OUT_DIR"), "/ptx");
    let run = Command::new("python3")
        .arg(script)
        .args(["--check", "--ptx", ptx])
        .args(["f32_nchw_128x128x8", "f32_nhwc_128x128x8"])
        .output();
    let Ok(output) = run else {
        eprintln!("no Python: the machine code is not looked at");
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(
            report.contains("direct_f32_nchw_128x128x8_sm80"),
            "{report}"
        ),
        Some(3) => eprintln!("{errors}"),
        _ => panic!("{errors}{report}"),
    }
}
