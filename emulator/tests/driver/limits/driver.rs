//! Limits through the driver API and the environment.

use super::resident;
use crate::common;
use cudarc::driver::{result, sys};
use ptx_emulator::client::Library;
use std::time::{Duration, Instant};

/// A launch through the driver API that ends by a limit: the health of the context, and the report.
fn endless_launch(library: &Library) -> (sys::CUresult, String) {
    library.silence(true);
    library.reset();
    let context = common::context(90);
    let endless = ".visible .entry endless() { L: bra L; }";
    let function = common::kernel(&context, endless, "endless");
    let stream = context.default_stream();
    let shape = cudarc::driver::LaunchConfig::for_num_elems(1);
    // SAFETY: the kernel has no parameters and touches no memory.
    let launched = unsafe { stream.launch_builder(&function).launch(shape) };
    launched.expect("a launch succeeds, whatever the kernel does");
    let health = common::code(stream.synchronize()).unwrap_or(sys::CUresult::CUDA_SUCCESS);
    let report = library.last_report().map(|report| report.text);
    (health, report.unwrap_or_default())
}

#[test]
fn the_client_limits_launches() {
    own_process!();
    let library = Library::load(90, 1).expect("cargo has built the library");
    let timeout = sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT;
    library.set_limits(5000, None);
    let (health, report) = endless_launch(&library);
    assert_eq!(health, timeout);
    assert!(report.contains("more than 5000 instructions"), "{report}");
    library.set_limits(u64::MAX, Some(Duration::from_millis(150)));
    let (health, report) = endless_launch(&library);
    assert_eq!(health, timeout);
    assert!(report.contains("longer than 0.15 seconds"), "{report}");
}

#[test]
fn page_locked_memory_is_not_written() {
    own_process!();
    let context = common::context(90);
    context.bind_to_thread().expect("bound");
    let (before, start) = (resident(), Instant::now());
    let bytes = 2 << 30;
    // SAFETY: the memory is read inside of its bounds, and not after it is freed.
    unsafe {
        let pointer = result::malloc_host(bytes, 0).expect("2 GiB");
        assert_eq!(pointer as usize % 4096, 0);
        assert_eq!(pointer.cast::<u8>().add(bytes - 1).read(), 0);
        result::free_host(pointer).expect("it was allocated");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(resident().saturating_sub(before) < 256 << 20);
}

/// Runs the ignored test below in a process with these variables.
fn child(variables: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("this test's file");
    let output = std::process::Command::new(program)
        .args([
            "--exact",
            "limits::driver::child_limits_of_the_environment",
            "--ignored",
        ])
        .envs(variables.iter().copied())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{variables:?}\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_environment_limits_launches_and_host_memory() {
    child(&[
        ("PTX_EMULATOR_INSTRUCTIONS", "7000"),
        ("LIMITS_TEST_REPORT", "more than 7000 instructions"),
    ]);
    child(&[
        ("PTX_EMULATOR_INSTRUCTIONS", "1000000000000000"),
        ("PTX_EMULATOR_SECONDS", "0.25"),
        ("PTX_EMULATOR_MEMORY", "64M"),
        ("LIMITS_TEST_REPORT", "longer than 0.25 seconds"),
    ]);
}

/// Child process of [`the_environment_limits_launches_and_host_memory`], which sets the limits.
#[test]
#[ignore = "child process of the_environment_limits_launches_and_host_memory"]
fn child_limits_of_the_environment() {
    let wanted = std::env::var("LIMITS_TEST_REPORT").expect("run by another test");
    let library = Library::load(90, 1).expect("cargo has built the library");
    let (health, report) = endless_launch(&library);
    assert_eq!(health, sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT);
    assert!(report.contains(&wanted), "{report}");
    if std::env::var("PTX_EMULATOR_MEMORY").is_err() {
        return;
    }
    let context = common::context(90);
    context.bind_to_thread().expect("bound");
    let out_of_memory = Some(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    // SAFETY: what is allocated is not touched, and freed once.
    unsafe {
        assert_eq!(
            common::code(result::malloc_host(65 << 20, 0)),
            out_of_memory
        );
        assert_eq!(
            common::code(result::malloc_host(usize::MAX, 0)),
            out_of_memory
        );
        let first = result::malloc_host(40 << 20, 0).expect("within the limit");
        assert_eq!(
            common::code(result::malloc_host(40 << 20, 0)),
            out_of_memory
        );
        let flags = sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL;
        assert_eq!(
            common::code(result::malloc_managed(40 << 20, flags)),
            out_of_memory
        );
        result::free_host(first).expect("it was allocated");
        let second = result::malloc_host(40 << 20, 0).expect("there is room again");
        result::free_host(second).expect("it was allocated");
    }
}
