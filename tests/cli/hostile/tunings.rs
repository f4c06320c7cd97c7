//! Tuning files, without which plans are made too: `explain` warns and goes on, `tune` overwrites
//! nothing that is not its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::command::Scratch;
use crate::hostile::fixture::Victim;
use crate::hostile::kinds::every_replacement;

/// A plan, for which the file only is of use.
#[test]
fn a_plan_does_without() {
    let scratch = Scratch::new("tunings-explain");
    let args = ["explain", "ic3oc4_ih5kh3ph1", "--tuning", "@/tuning.txt"];
    let mut victim = Victim::new(scratch, "tuning.txt", &args);
    victim.code = 0;
    victim.write("warpconv-tuning 1\nno entry at all\nend 1 0000000000000000\n");
    every_replacement(&victim);
    for (what, text, word) in [
        (
            "a later format",
            "warpconv-tuning 99\nend 0 0\n".to_owned(),
            "99",
        ),
        (
            "another file",
            "once upon a time\n".to_owned(),
            "no tuning file",
        ),
        (
            "a format beyond 2^32",
            "warpconv-tuning 4294967296\n".to_owned(),
            "no tuning file",
        ),
        (
            "a wrong checksum",
            "warpconv-tuning 1\nend 0 0123456789abcdef\n".to_owned(),
            "checksum",
        ),
        (
            "a line of 10 MB",
            format!("warpconv-tuning 1\n{}\nend 1 0\n", "x".repeat(10 << 20)),
            "checksum",
        ),
        ("17 MB", "warpconv-tuning 1\n".repeat(1 << 20), "bytes"),
    ] {
        victim.write(text);
        victim.refuses(what, &[word]);
    }
}

/// The target of `tune` belongs to another program: it neither waits for a pipe's reader nor
/// empties what a link leads to.
#[test]
fn winners_go_nowhere_else() {
    let scratch = Scratch::new("tunings-tune");
    let args = [
        "tune",
        "ic1oc1_ih3kh3",
        "--by",
        "instructions",
        "--tuning",
        "@/tuning.txt",
    ];
    let victim = Victim::new(scratch, "tuning.txt", &args);
    victim.accepts();
    victim.write("once upon a time\n");
    victim.refuses("another file", &["cannot be kept", "no tuning file"]);
    victim.write("warpconv-tuning 1\ncut off");
    victim.accepts();
    for beside in ["tuning.txt.lock", "tuning.txt.new"] {
        let place = victim.scratch.0.join(beside);
        let _ = fs::remove_file(&place);
        let made = Command::new("mkfifo").arg(&place).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        victim.refuses("a pipe", &["cannot be kept", "no regular file"]);
        fs::remove_file(&place).expect("the pipe goes");
        let precious = victim.scratch.0.join("precious");
        fs::write(&precious, "mine").expect("a file");
        symlink(&precious, &place).expect("a link");
        victim.refuses("a link", &["cannot be kept", "no regular file"]);
        assert_eq!(fs::read(&precious).expect("the file"), b"mine");
        fs::remove_file(&place).expect("the link goes");
    }
    victim.accepts();
}
