//! Choice of the driver, where `libcuda.so` is a stub, does not start, lacks functions, is hidden
//! by another, or has a device that is busy. The drivers are fakes, compiled here; each case is a
//! process of its own, which opens a device and says what came of it. Skipped where there is no
//! rustc, and where there is a GPU, whose driver would be found too.
#![cfg(all(target_os = "linux", feature = "emulator"))]

mod cubins;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{gpu, small_conv};
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
use warpconv::plan::Plan;

/// Names the device that [`child`] opens.
const OPEN: &str = "WARPCONV_TEST_OPEN";

/// Behaviour of a fake.
#[derive(Clone, Copy)]
struct Fake {
    init: u32,
    devices: u32,
    version: u32,
    retain: u32,
    /// Outcome of loading PTX.
    load: u32,
    /// Outcome of loading an ELF file.
    load_elf: u32,
    /// A function that it does not have.
    lacks: Option<&'static str>,
}

/// One that works, as far as it goes.
const WORKS: Fake = Fake {
    init: 0,
    devices: 1,
    version: 12_040,
    retain: 0,
    load: 0,
    load_elf: 0,
    lacks: None,
};

/// The toolkit's stub.
const STUB: Fake = Fake { init: 34, ..WORKS };

/// The folder of the compiled fake, gone at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A fresh folder for a case.
fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("warpconv-drivers-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    Folder(path)
}

/// The compiled fake; `None` where there is no compiler.
fn compiled() -> Option<&'static [u8]> {
    static COMPILED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let compile = || {
        let folder = folder("fake");
        let to = folder.0.join("libfake.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launch/drivers/fake.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "cdylib",
                "-C",
                "panic=abort",
                "-o",
            ])
            .args([&to, &source])
            .output()
            .ok()?;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(fs::read(to).unwrap())
    };
    COMPILED.get_or_init(compile).as_deref()
}

impl Fake {
    /// Writes it to a file.
    fn write(self, to: &Path) {
        let mut bytes = compiled().expect("a compiler").to_vec();
        let find = |bytes: &[u8], text: &[u8]| {
            let mut at = bytes.windows(text.len()).enumerate();
            at.find_map(|(at, window)| (window == text).then_some(at))
        };
        let at = 20 + find(&bytes, b"FAKE-DRIVER-IS-TOLD:").expect("the mark");
        let told = [
            self.init,
            self.devices,
            self.version,
            self.retain,
            self.load,
            self.load_elf,
        ];
        let told: String = told.map(|number| format!("{number:06}")).concat();
        bytes[at..at + told.len()].copy_from_slice(told.as_bytes());
        if let Some(name) = self.lacks {
            let name = [b"\0", name.as_bytes(), b"\0"].concat();
            while let Some(at) = find(&bytes, &name) {
                bytes[at + 1] = b'x';
            }
        }
        fs::write(to, bytes).unwrap();
    }
}

/// Outcome of a case.
struct Outcome(String);

impl Outcome {
    #[track_caller]
    fn says(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.0.contains(text), "no `{text}` in:\n{}", self.0);
        }
    }
}

/// Opens a device in a process whose linker finds the libraries in these folders, in this order;
/// `None` if it cannot be told here.
fn open(name: &str, choice: &str, folders: &[&[(&str, Fake)]]) -> Option<Outcome> {
    open_by(
        &std::env::current_exe().unwrap(),
        name,
        choice,
        folders,
        &[],
    )
}

/// As [`open`], with this copy of the program and variables of the environment.
fn open_by(
    program: &Path,
    name: &str,
    choice: &str,
    folders: &[&[(&str, Fake)]],
    variables: &[(&str, &Path)],
) -> Option<Outcome> {
    if gpu().kind() == DeviceKind::Gpu {
        return None;
    }
    compiled()?;
    let root = folder(name);
    let mut path = Vec::new();
    for (index, files) in folders.iter().enumerate() {
        let folder = root.0.join(index.to_string());
        fs::create_dir_all(&folder).unwrap();
        for (file, fake) in *files {
            fake.write(&folder.join(file));
        }
        path.push(folder);
    }
    let output = Command::new(program)
        .args(["--exact", "drivers::child", "--nocapture"])
        .env(OPEN, choice)
        .envs(variables.iter().copied())
        .env("LD_LIBRARY_PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let text = format!("{}\n{}", said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{text}");
    Some(Outcome(text.replace(&*root.0.to_string_lossy(), "ROOT")))
}

/// Prints the library's warnings.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == warpconv::device::LOG_TARGET
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            println!("{} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Not a test by itself: opens the device and prints what came of it.
#[test]
fn child() {
    let Ok(choice) = std::env::var(OPEN) else {
        return;
    };
    let choice: DeviceChoice = choice.parse().unwrap();
    let logger = log::set_logger(&Printer);
    logger.unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let opened = Gpu::open(&choice).and_then(|gpu| {
        println!("OPENED {}", gpu.kind());
        let plan = Plan::new(&small_conv(), gpu.capability())?;
        gpu.prepare(&plan)
    });
    match opened {
        Ok(prepared) => {
            println!("PREPARED");
            println!("LOADED {}", prepared.loaded());
            println!("LOG {}", prepared.jit_log());
        }
        Err(error) => println!("ERROR {error:?}\n{error}"),
    }
}

#[test]
fn a_stub_is_no_driver_and_the_emulator_takes_its_place() {
    for (name, file) in [("stub", "libcuda.so"), ("stub1", "libcuda.so.1")] {
        let Some(auto) = open(name, "auto", &[&[(file, STUB)]]) else {
            return;
        };
        auto.says(&["OPENED emulator", "PREPARED"]);
    }
    let both: &[_] = &[("libcuda.so", STUB), ("libcuda.so.1", STUB)];
    open("stubs", "auto", &[both])
        .unwrap()
        .says(&["OPENED emulator", "PREPARED"]);
    open("stub-gpu", "gpu", &[both]).unwrap().says(&[
        "ERROR NoDriver",
        "ROOT/0/libcuda.so: cuInit fails with CUDA error 34",
        "the toolkit's stub",
        "ROOT/0/libcuda.so.1: ",
    ]);
    open("stub-emulator", "emulator:80", &[both])
        .unwrap()
        .says(&["OPENED emulator", "PREPARED"]);
}

#[test]
fn a_driver_that_does_not_start_is_quoted_and_replaced() {
    for (code, said) in [
        (
            803,
            "CUDA error 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: the fake's own words): this \
             library and the kernel's module",
        ),
        (
            999,
            "CUDA error 999 (CUDA_ERROR_OF_THE_FAKE: the fake's own words): often the device files",
        ),
        (
            3,
            "CUDA error 3 (CUDA_ERROR_OF_THE_FAKE: the fake's own words)",
        ),
    ] {
        let fake = Fake {
            init: code,
            ..WORKS
        };
        let files: &[_] = &[("libcuda.so", fake)];
        let Some(named) = open(&format!("init{code}"), "gpu", &[files]) else {
            return;
        };
        named.says(&["ERROR NoDriver", said]);
        open(&format!("auto{code}"), "auto", &[files])
            .unwrap()
            .says(&["OPENED emulator", "PREPARED"]);
    }
}

#[test]
fn no_device_and_an_old_driver_leave_the_emulator() {
    let none = Fake {
        devices: 0,
        ..WORKS
    };
    let old = Fake {
        version: 11_020,
        ..WORKS
    };
    for (name, fake, says) in [
        ("none", none, "ERROR NoDevice { ordinal: 0, devices: 0 }"),
        (
            "hundred",
            Fake { init: 100, ..WORKS },
            "ERROR NoDevice { ordinal: 0, devices: 0 }",
        ),
        ("old", old, "ERROR DriverTooOld { driver: 11020"),
    ] {
        let files: &[_] = &[("libcuda.so", fake), ("libcuda.so.1", fake)];
        let Some(named) = open(name, "gpu", &[files]) else {
            return;
        };
        named.says(&[says]);
        open(&format!("{name}-auto"), "auto", &[files])
            .unwrap()
            .says(&["OPENED emulator", "PREPARED"]);
    }
}

#[test]
fn a_driver_that_lacks_a_function_does_not_panic() {
    for (name, function) in [
        ("lacks-init", "cuInit"),
        ("lacks-wait", "cuStreamWaitEvent"),
        ("lacks-async", "cuMemAllocAsync"),
    ] {
        let fake = Fake {
            lacks: Some(function),
            ..WORKS
        };
        let files: &[_] = &[("libcuda.so", fake)];
        let Some(named) = open(name, "gpu", &[files]) else {
            return;
        };
        named.says(&["ERROR NoDriver", &format!("it has no {function}")]);
        open(&format!("{name}-auto"), "auto", &[files])
            .unwrap()
            .says(&["OPENED emulator", "PREPARED"]);
    }
}

#[test]
fn the_library_that_is_probed_is_the_one_that_is_used() {
    for (name, files) in [
        ("so", &[("libcuda.so", WORKS)] as &[_]),
        ("so1", &[("libcuda.so.1", WORKS)]),
        ("same", &[("libcuda.so", WORKS), ("libcuda.so.1", STUB)]),
    ] {
        for choice in ["auto", "gpu"] {
            let Some(opened) = open(&format!("{name}-{choice}"), choice, &[files]) else {
                return;
            };
            opened.says(&["OPENED gpu", "PREPARED"]);
        }
    }
}

#[test]
fn a_driver_behind_a_stub_is_an_error_that_names_both() {
    for choice in ["auto", "gpu"] {
        let folders: &[&[_]] = &[&[("libcuda.so", STUB)], &[("libcuda.so.1", WORKS)]];
        let Some(hidden) = open(&format!("hidden-{choice}"), choice, folders) else {
            return;
        };
        hidden.says(&[
            "ERROR DriverHidden",
            "the NVIDIA driver ROOT/1/libcuda.so.1 works, but programs that ask for libcuda.so get \
             ROOT/0/libcuda.so",
            "stub",
            "LD_LIBRARY_PATH",
        ]);
    }
    // The other way round cudarc finds the driver.
    let folders: &[&[_]] = &[&[("libcuda.so", WORKS)], &[("libcuda.so.1", STUB)]];
    open("not-hidden", "auto", folders)
        .unwrap()
        .says(&["OPENED gpu", "PREPARED"]);
}

#[test]
fn a_gpu_that_is_busy_or_full_is_an_error_that_says_what_to_do() {
    for (code, said) in [(2, "memory is full"), (46, "another process"), (807, "MPS")] {
        let fake = Fake {
            retain: code,
            ..WORKS
        };
        let files: &[_] = &[("libcuda.so.1", fake)];
        for choice in ["auto", "gpu"] {
            let Some(busy) = open(&format!("busy{code}-{choice}"), choice, &[files]) else {
                return;
            };
            busy.says(&[
                "ERROR DeviceBusy",
                &format!("CUDA error {code} "),
                said,
                "WARPCONV_DEVICE=emulator",
            ]);
        }
    }
    let broken = Fake {
        retain: 101,
        ..WORKS
    };
    open("broken", "auto", &[&[("libcuda.so.1", broken)]])
        .unwrap()
        .says(&["ERROR Driver { operation: \"opening the device's context\", code: 101"]);
}

#[test]
fn a_driver_that_refuses_ptx_it_is_new_enough_for_is_not_called_old() {
    let files = |version| {
        [(
            "libcuda.so.1",
            Fake {
                load: 222,
                version,
                ..WORKS
            },
        )]
    };
    let Some(new) = open("ptx-new", "auto", &[&files(12_040)]) else {
        return;
    };
    new.says(&[
        "ERROR ModuleLoad",
        "CUDA error 222",
        "ptxas fatal: the fake's log",
        "The driver speaks CUDA 12.4, and PTX ",
        "libnvidia-ptxjitcompiler",
    ]);
}
