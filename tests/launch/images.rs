//! Image that a kernel is loaded from: this build's PTX, or that of `WARPCONV_OVERRIDE_PTX`. The
//! variable holds for a process, so each case is one of its own.
#![cfg(feature = "emulator")]

use std::fs;
use std::path::PathBuf;

use warpconv::Error;
use warpconv::device::{DeviceKind, Gpu, Loaded};
use warpconv::plan::Plan;
use warpconv::problem::Conv2d;
use warpconv::ptx;

use crate::common::process::run_again;
use crate::common::{gpu, small_conv};

/// Names the folder that a case has written; set in its process alone.
const OVERRIDE: &str = "WARPCONV_OVERRIDE_PTX";

/// A folder, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("warpconv-images-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The device, a plan, its kernel's name and its text.
fn planned() -> (&'static Gpu, Plan<Conv2d>, String, String) {
    let gpu = gpu();
    let plan = Plan::new(&small_conv(), gpu.capability()).unwrap();
    let text = ptx::text(plan.kernel_id()).unwrap();
    let name = plan.kernel().name();
    (gpu, plan, name, text)
}

/// Runs `body` in a process whose variable names the folder; `name` is the test's. Only on the
/// emulator, whose words the bodies compare with.
fn with_override(name: &str, folder: impl FnOnce() -> PathBuf, body: impl FnOnce(PathBuf)) {
    if gpu().kind() == DeviceKind::Gpu {
        return;
    }
    match std::env::var_os(OVERRIDE) {
        Some(folder) => body(folder.into()),
        None => {
            let folder = folder();
            let path = folder.to_str().unwrap();
            run_again(&format!("images::{name}"), &[(OVERRIDE, path)]);
        }
    }
}

/// The result of one launch on operands of ones.
fn run(gpu: &Gpu, plan: &Plan<Conv2d>) -> Result<Vec<f32>, Error> {
    let conv = plan.problem();
    let ones = |count: usize| gpu.upload(&vec![1.0f32; count]);
    let (x, w) = (ones(conv.input().len())?, ones(conv.filter().len())?);
    let bias = ones(conv.output().c())?;
    let mut y = ones(conv.output().len())?;
    let mut buffers = warpconv::launch::ConvBuffers::new(&x, &w, &mut y);
    buffers.bias = Some(&bias);
    gpu.prepare(plan)?.launch(gpu.stream(), buffers)?;
    gpu.synchronize()?;
    gpu.download(&y)
}

#[test]
fn a_kernel_comes_from_this_builds_ptx_unless_another_is_named() {
    let (gpu, plan, ..) = planned();
    let prepared = gpu.prepare(&plan).unwrap();
    assert_eq!(prepared.loaded(), Loaded::Ptx);
    assert_eq!(prepared.loaded().to_string(), "PTX, compiled by the driver");
    if gpu.kind() == DeviceKind::Emulator {
        assert_eq!(prepared.jit_log(), "");
    }
    let attributes = prepared.attributes().unwrap();
    assert!(attributes.registers > 0 && attributes.max_threads >= plan.kernel().threads);
}

#[test]
fn a_text_of_the_named_folder_takes_the_place_of_the_builds() {
    let folder = Folder::new("trap");
    let write = || {
        let (_, _, name, text) = planned();
        // The kernel's first instruction, behind a declaration, ends the launch.
        let at = text.find("\n{").expect("a body") + 2;
        let body = text[at..].find(';').expect("a declaration");
        let trap = format!(
            "{}\n\ttrap;{}",
            &text[..at + body + 1],
            &text[at + body + 1..]
        );
        assert!(trap.matches("trap;").count() == 1 + text.matches("trap;").count());
        fs::write(folder.0.join(format!("{name}.ptx")), trap).unwrap();
        folder.0.clone()
    };
    with_override(
        "a_text_of_the_named_folder_takes_the_place_of_the_builds",
        write,
        |named| {
            let (gpu, plan, name, _) = planned();
            if let Some(emulator) = gpu.emulator() {
                emulator.silence(true);
            }
            let prepared = gpu.prepare(&plan).unwrap();
            assert_eq!(
                prepared.loaded(),
                Loaded::Override {
                    folder: named.clone()
                }
            );
            let said = prepared.loaded().to_string();
            assert_eq!(said, format!("PTX of {}", named.display()));
            // A kernel without a file is this build's.
            let other = small_conv()
                .to_builder()
                .dtype(warpconv::DType::F16)
                .build()
                .unwrap();
            let other = Plan::new(&other, gpu.capability()).unwrap();
            assert_ne!(other.kernel().name(), name);
            assert_eq!(gpu.prepare(&other).unwrap().loaded(), Loaded::Ptx);
            let error = run(gpu, &plan).unwrap_err();
            let Error::Driver {
                code: 719, message, ..
            } = &error
            else {
                panic!("{error}")
            };
            assert!(
                message.contains("trap") && message.contains(&name),
                "{message}"
            );
        },
    );
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let missing = || PathBuf::from("/no/such/folder");
    with_override(
        "a_folder_that_is_not_there_is_an_error_that_names_it",
        missing,
        |_| {
            let (gpu, plan, name, _) = planned();
            let error = gpu.prepare(&plan).unwrap_err();
            let Error::ModuleLoad {
                kernel,
                code: 301,
                reason,
            } = &error
            else {
                panic!("{error}")
            };
            assert_eq!(*kernel, name);
            assert!(
                reason.contains("WARPCONV_OVERRIDE_PTX is /no/such/folder"),
                "{reason}"
            );
        },
    );
}

#[test]
fn a_file_that_is_no_ptx_is_an_error_that_names_the_folder() {
    let folder = Folder::new("no-ptx");
    let write = || {
        let (_, _, name, _) = planned();
        let half = Plan::new(
            &small_conv()
                .to_builder()
                .dtype(warpconv::DType::F16)
                .build()
                .unwrap(),
            planned().0.capability(),
        );
        let half = half.unwrap().kernel().name();
        fs::write(folder.0.join(format!("{name}.ptx")), "no PTX at all").unwrap();
        fs::write(folder.0.join(format!("{half}.ptx")), b"\x7fELF\0\xff").unwrap();
        folder.0.clone()
    };
    with_override(
        "a_file_that_is_no_ptx_is_an_error_that_names_the_folder",
        write,
        |named| {
            let (gpu, plan, ..) = planned();
            if let Some(emulator) = gpu.emulator() {
                emulator.silence(true);
            }
            let half = small_conv()
                .to_builder()
                .dtype(warpconv::DType::F16)
                .build()
                .unwrap();
            let half = Plan::new(&half, gpu.capability()).unwrap();
            for (plan, said) in [(&plan, "no .version"), (&half, "no UTF-8 at byte 5")] {
                let error = gpu.prepare(plan).unwrap_err();
                let Error::ModuleLoad {
                    code: 200, reason, ..
                } = &error
                else {
                    panic!("{error}")
                };
                assert!(reason.contains(named.to_str().unwrap()), "{reason}");
                assert!(reason.contains(said), "{reason}");
            }
        },
    );
}
