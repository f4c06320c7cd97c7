//! Runs one test of this program in a process of its own. The library's tests include this file
//! too.

use std::process::Command;

/// Set for the process that runs a single test.
const CHILD: &str = "WARPCONV_TEST_CHILD";

/// Returns whether this is a process that runs a single test.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs this program for the test of that name, with these variables of the environment. Returns
/// what it printed on standard output and standard error. A test that fails there fails here.
pub fn run_again(name: &str, variables: &[(&str, &str)]) -> (String, String) {
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .expect("this program runs again");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    // A name that no test has would run none of them and succeed.
    assert!(
        output.status.success() && out.contains("ok. 1 passed"),
        "{name}, in a process of its own:\n{out}\n{error}"
    );
    (out, error)
}
