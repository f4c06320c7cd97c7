//! Machine code in place of PTX, on a fake driver of compute capability 8.0 that prints which
//! images it is given. The cubins are ELF headers: the fake reads no more of them.

use std::fs;
use std::path::Path;

use ptx_archive::{Cubin, Cubins, Hasher};
use warpconv::kernels::{KernelId, kernels};
use warpconv::ptx;

use super::{Fake, Outcome, WORKS, folder, open_by};

/// The folder of the cubins.
const CUBINS: &str = "WARPCONV_CUBINS";

/// A cubin of every kernel, as `cargo xtask cubins` makes them for this build.
fn images() -> Vec<Cubin> {
    let mut image = b"\x7fELF".to_vec();
    image.resize(64, 0);
    let cubin = |(index, kernel): (usize, &warpconv::kernels::Kernel)| Cubin {
        id: kernel.name(),
        target: "sm_80".to_owned(),
        text_hash: Hasher::of(&ptx::text(KernelId(index)).unwrap()),
        image: image.clone(),
    };
    kernels().iter().enumerate().map(cubin).collect()
}

/// The images, each changed.
fn changed(change: impl Fn(&mut Cubin)) -> Vec<u8> {
    let mut images = images();
    images.iter_mut().for_each(change);
    Cubins::pack(&images)
}

/// Loads a kernel by the fake, with this file of cubins; `None` if there is no fake here.
fn load(name: &str, driver: Fake, file: &str, bytes: &[u8]) -> Option<Outcome> {
    let cubins = folder(&format!("cubins-of-{name}"));
    fs::write(cubins.0.join(file), bytes).unwrap();
    load_from(name, "gpu", driver, &cubins.0)
}

fn load_from(name: &str, choice: &str, driver: Fake, cubins: &Path) -> Option<Outcome> {
    open_by(
        &std::env::current_exe().unwrap(),
        &format!("cubins-{name}"),
        choice,
        &[&[("libcuda.so", driver)]],
        &[(CUBINS, cubins)],
    )
}

impl Outcome {
    /// The kinds of the images that the fake was given, in order.
    fn images(&self) -> Vec<&str> {
        let given = self.0.lines();
        given
            .filter_map(|line| line.strip_prefix("THE FAKE LOADS "))
            .collect()
    }

    /// The driver compiled PTX, after a warning with these words.
    #[track_caller]
    fn falls_back(&self, words: &[&str]) {
        self.says(&["LOADED PTX, compiled by the driver", "WARN "]);
        self.says(words);
        assert_eq!(self.0.matches("WARN ").count(), 1, "{}", self.0);
        assert_eq!(self.images().last(), Some(&"PTX"), "{}", self.0);
    }
}

#[test]
fn a_cubin_of_the_device_and_this_build_is_preferred() {
    let bytes = Cubins::pack(&images());
    let Some(taken) = load("good", WORKS, "sm_80.cubins", &bytes) else {
        return;
    };
    taken.says(&["PREPARED", "LOADED cubin sm_80"]);
    assert_eq!(taken.images(), ["ELF"]);
    assert!(!taken.0.contains("WARN "), "{}", taken.0);
    // Without a folder the driver compiles PTX, and its notes are kept.
    let none = load_from("none", "gpu", WORKS, Path::new("")).unwrap();
    none.says(&[
        "LOADED PTX, compiled by the driver",
        "LOG ptxas info    : Used 42 registers",
    ]);
    assert_eq!(none.images(), ["PTX"]);
    assert!(!none.0.contains("WARN "), "{}", none.0);
}

#[test]
fn a_folder_beside_that_of_the_program_is_found() {
    let root = folder("cubins-beside");
    for name in ["tests", "cubins"] {
        fs::create_dir_all(root.0.join(name)).unwrap();
    }
    let program = root.0.join("tests/launch");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let bytes = Cubins::pack(&images());
    fs::write(root.0.join("cubins/sm_80.cubins"), bytes).unwrap();
    let drivers: &[&[_]] = &[&[("libcuda.so", WORKS)]];
    let Some(taken) = open_by(&program, "beside", "gpu", drivers, &[]) else {
        return;
    };
    taken.says(&["LOADED cubin sm_80"]);
}

#[test]
fn cubins_of_another_architecture_fall_back_to_ptx() {
    let other = changed(|cubin| cubin.target = "sm_90a".to_owned());
    let Some(entry) = load("entry", WORKS, "sm_80.cubins", &other) else {
        return;
    };
    entry.falls_back(&["its cubin is for sm_90a, the device has compute capability 8.0"]);
    assert_eq!(entry.images(), ["PTX"]);
    let file = load("file", WORKS, "sm_90.cubins", &other).unwrap();
    file.falls_back(&["has no cubins for compute capability 8.0"]);
    let newer = load("newer", WORKS, "sm_86.cubins", &other).unwrap();
    newer.falls_back(&["has no cubins for compute capability 8.0"]);
}

#[test]
fn damaged_and_missing_files_fall_back_to_ptx() {
    let bytes = Cubins::pack(&images());
    let cut = &bytes[..bytes.len() - 1];
    let Some(cut) = load("cut", WORKS, "sm_80.cubins", cut) else {
        return;
    };
    cut.falls_back(&["sm_80.cubins: the file is no archive of cubins, or is cut short"]);
    assert_eq!(cut.images(), ["PTX"]);
    // Not handed to the driver, which would read beyond it.
    let short = changed(|cubin| cubin.image.truncate(20));
    let short = load("short", WORKS, "sm_80.cubins", &short).unwrap();
    short.falls_back(&["its cubin is damaged"]);
    assert_eq!(short.images(), ["PTX"]);
    let mut none = images();
    none.clear();
    let none = load("empty", WORKS, "sm_80.cubins", &Cubins::pack(&none)).unwrap();
    none.falls_back(&["the file has no cubin of it"]);
    let missing = load_from("missing", "gpu", WORKS, Path::new("/no/such/folder")).unwrap();
    missing.falls_back(&["WARPCONV_CUBINS is /no/such/folder, which is no folder"]);
}

#[test]
fn cubins_of_other_sources_fall_back_to_ptx() {
    let other = changed(|cubin| cubin.text_hash ^= 1);
    let Some(other) = load("sources", WORKS, "sm_80.cubins", &other) else {
        return;
    };
    other.falls_back(&["its cubin was made from other sources"]);
    assert_eq!(other.images(), ["PTX"]);
}

#[test]
fn a_cubin_that_the_driver_refuses_falls_back_to_ptx() {
    let refuses = Fake {
        load_elf: 209,
        ..WORKS
    };
    let bytes = Cubins::pack(&images());
    let Some(refused) = load("refused", refuses, "sm_80.cubins", &bytes) else {
        return;
    };
    refused.falls_back(&["the driver refuses its cubin: ", "CUDA error 209"]);
    assert_eq!(refused.images(), ["ELF", "PTX"]);
    // The device's memory is full: PTX would not fit either.
    let full = Fake {
        load_elf: 2,
        ..WORKS
    };
    let full = load("full", full, "sm_80.cubins", &bytes).unwrap();
    full.says(&["ERROR OutOfMemory"]);
    assert_eq!(full.images(), ["ELF"]);
}

#[test]
fn the_emulator_takes_ptx_without_a_warning() {
    let cubins = folder("cubins-of-emulator");
    fs::write(cubins.0.join("sm_80.cubins"), Cubins::pack(&images())).unwrap();
    let Some(emulator) = load_from("emulator", "emulator:80", WORKS, &cubins.0) else {
        return;
    };
    emulator.says(&["OPENED emulator", "LOADED PTX, compiled by the driver"]);
    assert!(!emulator.0.contains("WARN "), "{}", emulator.0);
}
