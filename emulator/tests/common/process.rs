//! Tests in a process of their own: the environment is read once per process, and reports, limits
//! and counted launches are those of the process.

#[path = "run_again.rs"]
mod run_again;

use run_again::{is_child, run_again};

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
    if is_child() {
        return false;
    }
    // `program::module::test::here`
    let (test, _) = path.rsplit_once("::").expect("a function of a test");
    let (_, name) = test.split_once("::").expect("a test of a program");
    run_again(name, variables);
    true
}
