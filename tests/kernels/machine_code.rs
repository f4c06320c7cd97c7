//! Machine code of the large f32 tiles, where ptxas and nvdisasm are installed: see `scripts/sass`,
//! which holds every kernel to the same rules in `.ci/run`. Without the tools the test has nothing
//! to look at and passes.

use crate::trials::test;
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;
use std::process::Command;

use warpconv::kernels::{KernelId, kernels};
use warpconv::ptx;

/// Parts of the names of the kernels that are looked at.
const NAMES: [&str; 2] = ["f32_nchw_128x128x8", "f32_nhwc_128x128x8"];

fn large_tiles_neither_spill_nor_waste_issue_slots() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sass");
    // The modules that this build embeds.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine_code");
    fs::create_dir_all(&folder).expect("a folder for the modules");
    for (index, kernel) in kernels().iter().enumerate() {
        let name = kernel.name();
        if NAMES.iter().any(|part| name.contains(part)) {
            let text = ptx::text(KernelId(index)).expect("every kernel has a text");
            fs::write(folder.join(format!("{name}.ptx")), text).expect("the module is written");
        }
    }
    let run = Command::new("python3")
        .arg(script)
        .args(["--check", "--ptx"])
        .arg(&folder)
        .args(NAMES)
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

/// The test of this file.
pub fn trials() -> [Trial; 1] {
    let name = "large_tiles_neither_spill_nor_waste_issue_slots";
    [test(
        format!("machine_code::{name}"),
        large_tiles_neither_spill_nor_waste_issue_slots,
    )]
}
