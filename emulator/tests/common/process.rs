//! Tests in a process of their own: the environment is read once per process, and reports, limits
//! and counted launches are those of the process.

use std::process::Command;

/// Set for the process that runs a single test.
const ALONE: &str = "EMULATOR_TEST_ALONE";

/// First statement of a test: runs that test in a process of its own, with these variables of the
/// environment.
macro_rules! own_process {
    ($($variable:literal = $value:literal),*) => {
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        if $crate::process::ran_alone(name, &[$(($variable, $value)),*]) {
            return;
        }
    };
}

/// Runs the test that has the function `path` in it again, unless this is the process for it;
/// returns whether it did. A test that fails there fails here.
pub fn ran_alone(path: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    // `program::module::test::here`
    let (test, _) = path.rsplit_once("::").expect("a function of a test");
    let (_, name) = test.split_once("::").expect("a test of a program");
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
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
    true
}
