//! The client's view: counters by launch, reports, labels. The environment's choice of devices.

use crate::common::{SCALE, WILD, context, kernel};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use ptx_emulator::client::Library;
use std::process::{Command, Output};

#[test]
fn launches_are_counted_and_faults_kept() {
    own_process!();
    let library = Library::load(80, 2).expect("cargo has built the library");
    assert_eq!(library.ordinals().len(), 2);
    let context = context(80);
    library.reset();
    let stream = context.default_stream();
    let scale = kernel(&context, SCALE, "scale");
    let mut x = stream.clone_htod(&[1.0f32; 64]).expect("a copy");
    for threads in [32, 64] {
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut x).arg(&2.0f32).arg(&64u32);
        let config = LaunchConfig {
            grid_dim: (2, 1, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the kernel keeps to 64 elements.
        unsafe { launch.launch(config) }.expect("a launch");
    }
    assert_eq!(library.launch_count(), 2);
    let launches = library.launches();
    assert_eq!(launches[1].kernel, "scale");
    assert_eq!(
        (launches[1].grid, launches[1].block),
        ([2, 1, 1], [64, 1, 1])
    );
    for launch in &launches {
        assert_eq!(launch.counters.device_bytes_read, 256);
        assert_eq!(launch.counters.device_bytes_written, 256);
    }
    assert_eq!(
        (launches[0].counters.threads, launches[1].counters.threads),
        (64, 128)
    );
    let totals = library.totals();
    assert_eq!(
        (totals.threads, totals.blocks, totals.device_bytes()),
        (192, 4, 1024)
    );
    assert_eq!(library.last_report(), None);
    assert_eq!(library.launch(2), None);

    let wild = kernel(&context, WILD, "wild");
    let address = {
        use cudarc::driver::DevicePtr;
        x.device_ptr(&stream).0
    };
    assert!(library.label(address, "activations"));
    assert!(!library.label(address + 4, "inside"));
    let mut launch = stream.launch_builder(&wild);
    launch.arg(&x).arg(&256i64);
    let config = LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (1, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the emulator finds the access and does not do it.
    unsafe { launch.launch(config) }.expect("the launch itself succeeds");
    let report = library.last_report().expect("a report");
    assert_eq!(report.code, 700);
    assert!(
        report
            .text
            .starts_with("out of bounds: global read of 4 bytes"),
        "{}",
        report.text
    );
    assert!(
        report.text.contains("kernel wild") && report.text.contains("\"activations\" of 256 bytes"),
        "{}",
        report.text
    );
    library.reset();
    assert_eq!((library.launch_count(), library.last_report()), (0, None));
}

/// Runs [`child`] in a process with these variables.
fn run_child(variables: &[(&str, &str)]) -> Output {
    let library = Library::load(80, 1).expect("cargo has built the library");
    let mut command = Command::new(std::env::current_exe().expect("the test's executable"));
    command
        .args(["--exact", "client::child", "--nocapture"])
        .env("PTX_EMULATOR_TEST_CHILD", "1");
    command.env("PTX_EMULATOR_LIB", library.path());
    command
        .envs(variables.iter().copied())
        .output()
        .expect("the child runs")
}

/// Not a test of its own: what the children do.
#[test]
fn child() {
    if std::env::var_os("PTX_EMULATOR_TEST_CHILD").is_none() {
        return;
    }
    // As any program would, with no word to the emulator but the name under which it is found.
    let Ok(count) = CudaContext::device_count() else {
        println!("no devices");
        return;
    };
    for ordinal in 0..count as usize {
        let context = CudaContext::new(ordinal).expect("a context");
        let capability = context.compute_capability().expect("a capability");
        println!(
            "device {ordinal}: {capability:?} {}",
            context.total_mem().expect("a size")
        );
    }
    let mut version = 0;
    // SAFETY: a place for the result.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) };
    println!("driver {version}");
    let mut reference = std::ptr::null_mut();
    // SAFETY: a place for the result.
    unsafe { cudarc::driver::sys::cuTexRefCreate(&mut reference) };
    let context = CudaContext::new(0).expect("a context");
    let wild = kernel(&context, WILD, "wild");
    let stream = context.default_stream();
    let x = stream.alloc_zeros::<u8>(16).expect("memory");
    let mut launch = stream.launch_builder(&wild);
    launch.arg(&x).arg(&16i64);
    let config = LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (1, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the emulator finds the access and does not do it.
    unsafe { launch.launch(config) }.expect("the launch itself succeeds");
}

#[test]
fn the_environment_decides_about_devices() {
    // A folder with the library under the name that programs search for, as in the README.
    let library = Library::load(80, 1).expect("cargo has built the library");
    let folder = std::env::temp_dir().join(format!("ptx-emulator-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let link = folder.join("libcuda.so");
    let _ = std::fs::remove_file(&link);
    let path = std::fs::canonicalize(library.path()).expect("the library's file");
    std::os::unix::fs::symlink(path, &link).expect("a link");
    let path = folder.to_string_lossy().into_owned();
    let run = |variables: &[(&str, &str)]| {
        let mut all = vec![("LD_LIBRARY_PATH", path.as_str())];
        all.extend(variables);
        let output = run_child(&all);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (out, err) = run(&[
        ("PTX_EMULATOR_SM", "75,90"),
        ("PTX_EMULATOR_MEMORY", "64M"),
        ("PTX_EMULATOR_DRIVER", "12.4"),
    ]);
    assert!(
        out.contains("device 0: (7, 5) 67108864") && out.contains("device 1: (9, 0) 67108864"),
        "{out}{err}"
    );
    assert!(
        out.contains("driver 12040") && !out.contains("device 2"),
        "{out}{err}"
    );
    assert!(
        err.contains("out of bounds: global read of 4 bytes"),
        "{err}"
    );
    assert!(!err.contains("cuTexRefCreate"), "{err}");
    let (out, err) = run(&[
        ("PTX_EMULATOR_DEVICES", "3"),
        ("PTX_EMULATOR_LOG", "1"),
        ("PTX_EMULATOR_THREADS", "1"),
    ]);
    assert!(out.contains("device 2: (8, 0)"), "{out}{err}");
    assert!(
        err.contains("cuTexRefCreate -> CUDA_ERROR_NOT_SUPPORTED"),
        "{err}"
    );
    let (out, err) = run(&[("PTX_EMULATOR_SM", "42")]);
    assert!(
        out.contains("no devices") && err.contains("PTX_EMULATOR_SM is \"42\""),
        "{out}{err}"
    );
    let (out, _) = run(&[("PTX_EMULATOR_DEVICES", "0")]);
    assert!(out.contains("no devices"), "{out}");
    let _ = std::fs::remove_dir_all(folder);
}
