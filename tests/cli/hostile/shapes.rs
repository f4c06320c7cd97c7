//! Shape files with lines that nobody wrote by hand.

use crate::command::Scratch;
use crate::hostile::fixture::Victim;

#[test]
fn lines_beyond_measure() {
    for command in ["verify", "counters", "tune"] {
        let scratch = Scratch::new(&format!("shapes-lines-{command}"));
        let victim = Victim::new(scratch, "shapes_x", &[command, "@/shapes_x"]);
        victim.write("ic".repeat(5 << 20));
        victim.refuses("a line of 10 MB", &["shapes_x:1", "10485760"]);
        victim.write(format!("# {}\n{}", "x".repeat(10 << 20), "_".repeat(5000)));
        victim.refuses("a comment of 10 MB", &["shapes_x:2", "5000"]);
        victim.write("ic3oc4_ih5kh3ph1\n".repeat(100_001));
        victim.refuses("100,001 problems", &["shapes_x:100001", "100000"]);
        victim.write("a\n".repeat(9 << 20));
        victim.refuses("18 MB", &["16777216"]);
        victim.write(b"ic3oc4_ih5kh3ph1n\"\xff\"\n");
        victim.refuses("no UTF-8", &["UTF-8", "18"]);
        victim.write("ic18446744073709551616oc4_ih5kh3ph1\n");
        victim.refuses("a number beyond 2^64", &["ic"]);
        victim.write("ic3oc4_ih5kh3ph1152921504606846976\n");
        victim.refuses("padding of 2^60", &["the padded input"]);
        victim.write("mb1152921504606846976ic1152921504606846976oc4_ih5kh3ph1\n");
        victim.refuses("a product beyond 2^64", &["1152921504606846976"]);
    }
}

/// Names other than files that a user gives: problems that are no file, and files that are no
/// problem.
#[test]
fn what_is_there_but_no_file() {
    for (path, word) in [("/dev/zero", "device"), ("/dev/stdin", ""), ("/", "folder")] {
        let scratch = Scratch::new("shapes-paths");
        let victim = Victim::new(scratch, "x", &["counters", path]);
        let run = victim.run(path);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.err.contains(path) && run.err.contains(word), "{run:?}");
    }
}
