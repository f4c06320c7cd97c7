//! Files as they come: missing, damaged, foreign, older, and written by several at a time.

use super::*;
use crate::kernels::Algorithm;
use crate::kernels::{KernelId, kernels};
use crate::plan::TunedKernel;
use std::thread;

/// A folder of its own for a test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder =
            std::env::temp_dir().join(format!("warpconv-tuning-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn card() -> Card {
    Card::new("NVIDIA H200", 12040)
}

fn tuned_kernel(kernel: usize, amount: f64) -> TunedKernel {
    TunedKernel {
        kernel: KernelId(kernel),
        split_k: 1,
        by: Measure::Time,
        amount,
        of: 3,
    }
}

/// Two entries.
fn two() -> Tuning {
    let mut tuning = Tuning::new(card());
    tuning.insert("mb1_ic8", tuned_kernel(1, 10.125));
    tuning.insert("mb2_ic8", tuned_kernel(2, 0.1));
    tuning
}

/// Two entries and two factors.
fn calibrated() -> Tuning {
    let mut tuning = two();
    let factor = |value| Factor::new(value, 7).unwrap();
    tuning.calibrate(&[(Algorithm::Mma, factor(1.25))], factor(0.1));
    tuning
}

fn reason(path: &Path) -> TuningReason {
    match Tuning::read(path, card()) {
        Err(TuningError::Content { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_saved_comes_back() {
    let scratch = Scratch::new("back");
    let path = scratch.0.join("new/folder/tuning.txt");
    assert!(Tuning::read(&path, card()).unwrap().len() == 0);
    two().save(&path).unwrap();
    assert_eq!(Tuning::read(&path, card()).unwrap(), two());
    let folder = path.parent().unwrap();
    assert!(!folder.join("tuning.txt.new").exists());

    // Another card's winners join them, and its own newer ones replace the older.
    let mut other = Tuning::new(Card::new("Tesla T4", 12040));
    other.insert("mb1_ic8", tuned_kernel(5, 99.0));
    other.save(&path).unwrap();
    let mut newer = Tuning::new(card());
    newer.insert("mb1_ic8", tuned_kernel(3, 9.0));
    newer.save(&path).unwrap();
    let all = Tuning::read(&path, card()).unwrap();
    assert_eq!(all.tuned_kernel("mb1_ic8"), Some(tuned_kernel(3, 9.0)));
    assert_eq!(all.tuned_kernel("mb2_ic8"), Some(tuned_kernel(2, 0.1)));
    let other = Tuning::read(&path, other.card().clone()).unwrap();
    assert_eq!(other.tuned_kernel("mb1_ic8"), Some(tuned_kernel(5, 99.0)));
}

/// Files by earlier versions, which have no factors; and a file without any is of that format.
#[test]
fn format_1_is_read_and_written_as_before() {
    let build = "0.0.1+0123456789abcdef";
    let text =
        format!("warpconv-tuning 1\nmb1_ic8\tNVIDIA H200\t12040\t{build}\tk\t2\tus\t10.5\t3\n");
    let sum = fingerprint(text.as_bytes(), SEED);
    let text = format!("{text}end 1 {sum:016x}\n");
    let read = parse(&text, card()).unwrap();
    assert!(read.is_outdated("mb1_ic8") && read.factors.is_empty());
    assert_eq!(print(&read), text);

    // A factor stands in no file of format 1.
    let factors = print(&calibrated());
    assert!(factors.starts_with("warpconv-tuning 2\n"), "{factors}");
    let (body, _) = factors.split_once("end ").unwrap();
    let body = body.replacen(" 2\n", " 1\n", 1);
    let sum = fingerprint(body.as_bytes(), SEED);
    let error = parse(&format!("{body}end 4 {sum:016x}\n"), card()).unwrap_err();
    assert!(error.to_string().contains("nine fields"), "{error}");
}

#[test]
fn factors_come_back_and_a_newer_calibration_replaces_them() {
    let scratch = Scratch::new("factors");
    let path = scratch.0.join("tuning.txt");
    calibrated().save(&path).unwrap();
    assert_eq!(Tuning::read(&path, card()).unwrap(), calibrated());

    // Winners that are found later leave the factors, and those of another card join them.
    let mut newer = Tuning::new(card());
    newer.insert("mb3_ic8", tuned_kernel(3, 9.0));
    newer.save(&path).unwrap();
    let mut other = Tuning::new(Card::new("Tesla T4", 12040));
    other.calibrate(&[], Factor::new(3.0, 1).unwrap());
    other.save(&path).unwrap();
    let read = Tuning::read(&path, card()).unwrap();
    assert_eq!(read.len(), 3);
    assert_eq!(read.factors.len(), 3);
    let value = |read: &Tuning, family| read.factor(family).map(|factor| factor.value());
    assert_eq!(value(&read, Algorithm::Mma), Some(1.25));
    assert_eq!(value(&read, Algorithm::Wgmma), Some(0.1));

    let mut newer = Tuning::new(card());
    let factor = |value| Factor::new(value, 1).unwrap();
    newer.calibrate(&[(Algorithm::Wgmma, factor(2.0))], factor(4.0));
    newer.save(&path).unwrap();
    let read = Tuning::read(&path, card()).unwrap();
    assert_eq!((read.len(), read.factors.len()), (3, 3));
    assert_eq!(value(&read, Algorithm::Mma), Some(4.0));
    assert_eq!(value(&read, Algorithm::Wgmma), Some(2.0));
    let other = Tuning::read(&path, other.card().clone()).unwrap();
    assert_eq!(value(&other, Algorithm::Mma), Some(3.0));
}

#[test]
fn any_damage_is_found_and_the_file_replaced() {
    let scratch = Scratch::new("damage");
    let path = scratch.0.join("tuning.txt");
    let text = print(&calibrated());
    // Cut off anywhere.
    for length in 0..text.len() {
        fs::write(&path, &text[..length]).unwrap();
        assert!(Tuning::read(&path, card()).is_err(), "{length} bytes");
    }
    // One character changed anywhere.
    for place in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[place] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(Tuning::read(&path, card()).is_err(), "byte {place}");
    }
    fs::write(&path, text.replace("mb2", "mb\u{fffd}")).unwrap();
    assert_eq!(reason(&path), TuningReason::Checksum);
    let mut bytes = text.clone().into_bytes();
    bytes[40] = 0xff;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(reason(&path), TuningReason::Checksum);
    two().save(&path).unwrap();
    assert_eq!(Tuning::read(&path, card()).unwrap(), two());
    fs::write(&path, "").unwrap();
    assert_eq!(reason(&path), TuningReason::CutOff);
    two().save(&path).unwrap();
}

/// Files by a version whose kernel families had other names.
#[test]
fn kernels_by_their_earlier_names_are_named() {
    let scratch = Scratch::new("renamed");
    let path = scratch.0.join("tuning.txt");
    for (old, new) in RENAMED {
        let current = kernels().iter().find(|k| k.algorithm.name() == new);
        let current = current.unwrap_or_else(|| panic!("no family {new}")).name();
        let mut tuning = two();
        for entry in tuning.entries.values_mut().skip(1) {
            entry.kernel = current.replacen(new, old, 1);
        }
        fs::write(&path, print(&tuning)).unwrap();
        let message = Tuning::read(&path, card()).unwrap_err().to_string();
        let want = format!(
            "line 3 of the tuning file is by an earlier version: kernels {old}_* are now {new}_*"
        );
        assert!(message.contains(&want), "{message}");
        assert!(message.ends_with("run `warpconv tune` again"), "{message}");
        two().save(&path).unwrap();
        assert_eq!(Tuning::read(&path, card()).unwrap(), two());
    }
}

#[test]
fn what_is_not_ours_is_neither_read_nor_overwritten() {
    let scratch = Scratch::new("foreign");
    let path = scratch.0.join("tuning.txt");
    for (text, want) in [
        ("\n", TuningReason::Foreign),
        ("dear diary\n", TuningReason::Foreign),
        ("warpconv-tuning\n", TuningReason::Foreign),
        ("warpconv-tuning one\n", TuningReason::Foreign),
        (
            "warpconv-tuning 3\nwho knows\n",
            TuningReason::Format { found: 3 },
        ),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(reason(&path), want, "{text:?}");
        let refused = two().save(&path).unwrap_err();
        assert!(refused.to_string().contains("tuning.txt: "), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    assert_eq!(reason(&path), TuningReason::Foreign);
    let folder = Tuning::read(&scratch.0, card()).unwrap_err();
    assert!(matches!(folder, TuningError::File { .. }), "{folder}");
}

#[test]
fn a_line_that_means_nothing_is_named() {
    let line = "p\tc\t1\tb\tk\t1\tus\t2.5\t3";
    let of = |line: &str| {
        let text = format!("{MAGIC} {FORMAT}\n{line}\n");
        let sum = fingerprint(text.as_bytes(), SEED);
        parse(&format!("{text}end 1 {sum:016x}\n"), card())
    };
    assert_eq!(of(line).unwrap().entries.len(), 1);
    for (wrong, part) in [
        (line.replace("\tus", ""), "nine fields"),
        (line.replace("us", "ms"), "what was measured"),
        (line.replace("2.5", "NaN"), "the amount"),
        (line.replace("2.5", "-1"), "the amount"),
        (line.replace("2.5", "inf"), "the amount"),
        (line.replace("2.5", "fast"), "the amount"),
        (line.replace("\tk\t1", "\tk\t0"), "empty"),
        (line.replace("\tk\t", "\t\t"), "empty"),
        (line.replace("c\t1", "c\tnew"), "driver"),
    ] {
        let error = of(&wrong).unwrap_err();
        assert!(
            matches!(error, TuningReason::Line { line: 2, .. }),
            "{error}"
        );
        assert!(error.to_string().contains(part), "{wrong}: {error}");
    }
    let line = "factor\tc\t1\tb\tmma\t1.5\t3";
    assert_eq!(of(line).unwrap().factors.len(), 1);
    for (wrong, part) in [
        (line.replace("\t3", ""), "seven fields"),
        (line.replace("\t1.5\t3", ""), "seven fields"),
        (line.replace("1.5", "NaN"), "out of bounds"),
        (line.replace("1.5", "0"), "out of bounds"),
        (line.replace("1.5", "-1.5"), "out of bounds"),
        (line.replace("1.5", "21"), "out of bounds"),
        (line.replace("1.5", "fast"), "the factor is no number"),
        (line.replace("\t3", "\tthree"), "the rows"),
        (line.replace("mma", ""), "empty"),
        (line.replace("c\t1", "c\tnew"), "driver"),
        (line.replace("factor", "fact"), "nine fields"),
    ] {
        let error = of(&wrong).unwrap_err();
        assert!(error.to_string().contains(part), "{wrong}: {error}");
    }
    let text = format!("{MAGIC} {FORMAT}\n{line}\n");
    let sum = fingerprint(text.as_bytes(), SEED);
    let miscounted = parse(&format!("{text}end 2 {sum:016x}\n"), card());
    assert_eq!(miscounted, Err(TuningReason::CutOff));
}

#[test]
fn what_is_of_an_older_build_does_not_count_and_goes() {
    let scratch = Scratch::new("older");
    let path = scratch.0.join("tuning.txt");
    let mut old = calibrated();
    for entry in old.factors.values_mut() {
        entry.build = "0.0.1+0123456789abcdef".to_owned();
    }
    let mut elsewhere = Tuning::new(Card::new("Tesla T4", 11080));
    elsewhere.insert("mb1_ic8", tuned_kernel(1, 1.0));
    old.entries.extend(elsewhere.entries);
    for entry in old.entries.values_mut() {
        entry.build = "0.0.1+0123456789abcdef".to_owned();
    }
    fs::write(&path, print(&old)).unwrap();
    let read = Tuning::read(&path, card()).unwrap();
    assert!(read.len() == 0 && read.is_outdated("mb1_ic8"));
    let mut new = Tuning::new(card());
    new.insert("mb3_ic8", tuned_kernel(1, 5.0));
    new.save(&path).unwrap();
    let read = Tuning::read(&path, card()).unwrap();
    assert_eq!((read.len(), read.entries.len()), (1, 2));
    assert!(read.factors.is_empty());
    assert!(!read.is_outdated("mb1_ic8"));
}

#[test]
fn writers_at_the_same_time_lose_nothing_and_readers_see_whole_files() {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 5;
    let scratch = Scratch::new("concurrent");
    let path = &scratch.0.join("tuning.txt");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let mut own = Tuning::new(card());
                    let problem = format!("mb{writer}_ic{round}");
                    own.insert(&problem, tuned_kernel(writer, round as f64));
                    own.save(path).unwrap();
                    let seen = Tuning::read(path, card()).unwrap();
                    assert_eq!(seen.tuned_kernel(&problem), own.tuned_kernel(&problem));
                }
            });
        }
    });
    let all = Tuning::read(path, card()).unwrap();
    assert_eq!(all.len(), WRITERS * ROUNDS);
}

#[test]
fn the_environment_says_where() {
    let of = |pairs: &[(&str, &str)]| {
        place(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    };
    assert_eq!(
        of(&[("WARPCONV_TUNING", "here.txt"), ("HOME", "/h")]),
        Some(PathBuf::from("here.txt"))
    );
    assert_eq!(of(&[("WARPCONV_TUNING", ""), ("HOME", "/h")]), None);
    let own = place(|name| std::env::var_os(name));
    assert_eq!(Tuning::default_path(), own);
    assert!(own.is_some() || std::env::var_os("HOME").is_none_or(|home| home.is_empty()));
    assert_eq!(of(&[]), None);
    if cfg!(target_os = "linux") {
        assert_eq!(
            of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]),
            Some(PathBuf::from("/x/warpconv/tuning.txt"))
        );
        // A relative folder is to be ignored, by the convention.
        assert_eq!(
            of(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]),
            Some(PathBuf::from("/h/.cache/warpconv/tuning.txt"))
        );
    }
}
