//! Kernels and modules that ask for more than there is: time, instructions, memory, text. Each ends
//! with a report or an error, soon, and without taking more of the host than is said.

mod driver;
mod text;

use crate::limited;
use ptx_emulator::{Device, DeviceConfig, Fault, FaultKind, LaunchConfig, LoadedKernel, Module};
use std::time::{Duration, Instant};

/// A module for sm_90a without its header.
fn text(body: &str) -> String {
    format!(".version 8.0\n.target sm_90a\n.address_size 64\n{body}")
}

/// A kernel without parameters, `k`.
fn kernel(body: &str) -> String {
    text(&format!(
        ".visible .entry k()\n{{\n.reg .pred %p<9>;\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n{body}\n\
        ret;\n}}\n"
    ))
}

fn device(change: impl FnOnce(&mut DeviceConfig)) -> Device {
    let mut config = DeviceConfig {
        workers: Some(2),
        ..DeviceConfig::new(90)
    };
    change(&mut config);
    Device::new(config)
}

fn load(device: &Device, text: &str) -> LoadedKernel {
    let module = Module::parse(text).expect("the module is good");
    let loaded = device.load(&module).expect("it fits");
    loaded.kernel("k").expect("the kernel is there")
}

/// Launches `k`; how it ends, how long it takes, and the bytes that it takes at most.
fn launch(
    device: &Device,
    text: &str,
    config: LaunchConfig,
) -> (Result<(), Fault>, Duration, usize) {
    let kernel = load(device, text);
    limited::begin(0);
    let (start, before) = (Instant::now(), limited::peak());
    let result = device.launch(&kernel, config, &[]).map(|_| ());
    (result, start.elapsed(), limited::peak() - before)
}

fn kind(result: Result<(), Fault>) -> FaultKind {
    *result.expect_err("the launch has a fault").kind
}

#[test]
fn a_launch_ends_when_its_time_is_over() {
    own_process!();
    let device = device(|config| config.time_limit = Some(Duration::from_millis(200)));
    let endless = kernel("L: bra L;");
    let spinning = kernel("L: bar.sync 0;\nbra L;");
    let empty = kernel("");
    let grid = |x, y| LaunchConfig {
        grid: [x, y, y],
        ..LaunchConfig::linear(1, 64)
    };
    for (text, config) in [
        (&endless, grid(1, 1)),
        (&endless, grid(100_000, 1)),
        (&spinning, grid(4, 1)),
        (&empty, grid(i32::MAX as u32, 65535)),
    ] {
        let (result, taken, _) = launch(&device, text, config);
        let report = result.as_ref().expect_err("a fault").to_string();
        assert_eq!(kind(result), FaultKind::TimeLimit { milliseconds: 200 });
        assert!(report.contains("0.2 seconds"), "{report}");
        assert!(report.contains("PTX_EMULATOR_SECONDS"), "{report}");
        assert!(taken < Duration::from_secs(10), "{taken:?}");
    }
}

#[test]
fn instructions_that_take_long_look_at_the_time() {
    own_process!();
    let device = device(|config| config.time_limit = Some(Duration::from_millis(200)));
    // 60000 copies of 128 KB without a branch between them.
    let copies =
        "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 131072;\n".repeat(60_000);
    let body = format!("mov.u32 %r1, s;\nmov.u64 %rd1, g;\n{copies}");
    let program = kernel(&body).replace(
        ".visible",
        ".global .align 16 .b8 g[131072];\n.extern .shared .align 16 .b8 s[];\n.visible",
    );
    // What is copied must have been written.
    let fill = "mov.u32 %r2, 0;\nF: st.shared.u32 [%r2], 0;\nadd.u32 %r2, %r2, 4;\nsetp.lt.u32 \
        %p1, %r2, 131072;\n@%p1 bra F;\nfence.proxy.async;\nmov.u32 %r1, s;";
    let program = program.replacen("mov.u32 %r1, s;", fill, 1);
    let config = LaunchConfig {
        shared_bytes: 131_072,
        ..LaunchConfig::linear(1, 1)
    };
    let (result, taken, _) = launch(&device, &program, config);
    assert_eq!(kind(result), FaultKind::TimeLimit { milliseconds: 200 });
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}

#[test]
fn blocks_that_wait_for_one_with_a_fault_end_with_it() {
    own_process!();
    let device = device(|config| config.time_limit = Some(Duration::from_secs(60)));
    let program = kernel("mov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p1, %r1, 3;\n@%p1 trap;\nL: bra L;");
    let kernel = load(&device, &program);
    let start = Instant::now();
    let result = device.launch_cooperative(&kernel, LaunchConfig::linear(8, 32), &[]);
    let fault = result.expect_err("block 3 traps");
    assert_eq!((*fault.kind, fault.block), (FaultKind::Trap, [3, 0, 0]));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_is_under_way_does_not_grow() {
    own_process!();
    let device = device(|config| {
        config.instruction_limit = 3_000_000;
        config.print_bytes = 4096;
        config.time_limit = None;
    });
    let shared = ".extern .shared .align 16 .b8 s[];\n.global .align 16 .b8 g[16];\n.visible";
    let stores = |more: &str| {
        kernel(&format!(
            "st.shared.v4.u32 [s], {{%r1, %r1, %r1, %r1}};\nfence.proxy.async;\nmov.u64 %rd1, g;\n\
            L: cp.async.bulk.global.shared::cta.bulk_group [%rd1], [s], 16;\n{more}bra L;"
        ))
        .replace("{%r1, %r1, %r1, %r1}", "{0, 0, 0, 0}")
        .replace(".visible", shared)
    };
    let programs = [
        stores(""),
        stores("cp.async.bulk.commit_group;\n"),
        kernel("L: fence.proxy.async;\nbra L;"),
        kernel("L: setmaxnreg.dec.sync.aligned.u32 40;\nbra L;"),
        kernel("L: cp.async.bulk.commit_group;\ncp.async.commit_group;\nbra L;"),
        kernel("L: membar.gl;\nbar.arrive 1, 64;\nbar.sync 1, 64;\nbra L;"),
    ];
    for program in programs {
        let config = LaunchConfig {
            shared_bytes: 1024,
            ..LaunchConfig::linear(1, 32)
        };
        let (result, _, bytes) = launch(&device, &program, config);
        let kind = kind(result);
        assert!(
            !matches!(kind, FaultKind::Internal(_) | FaultKind::InvalidLaunch(_)),
            "{program}\n{kind:?}"
        );
        assert!(bytes < 64 << 20, "{bytes} bytes\n{program}");
    }
}

#[test]
fn endless_printing_keeps_what_comes_last() {
    own_process!();
    let device = device(|config| {
        config.instruction_limit = 200_000;
        config.print_bytes = 2000;
    });
    let program = kernel(
        "mov.u64 %rd1, f;\nmov.u64 %rd2, 0;\nL:\n\
        {\n.param .b64 a;\nst.param.b64 [a], %rd1;\n.param .b64 b;\nst.param.b64 [b], %rd2;\n\
        .param .b32 r;\ncall (r), vprintf, (a, b);\n}\nbra L;",
    )
    .replace(
        ".visible",
        // "%999999999d\n"
        ".extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n.global .align 1 \
        .b8 f[16] = {37, 57, 57, 57, 57, 57, 57, 57, 57, 57, 100, 10, 0};\n.visible",
    );
    let (result, taken, bytes) = launch(&device, &program, LaunchConfig::linear(1, 1));
    assert!(matches!(kind(result), FaultKind::InstructionLimit { .. }));
    assert!(bytes < 16 << 20, "{bytes} bytes");
    assert!(taken < Duration::from_secs(60), "{taken:?}");
}

#[test]
fn variables_are_zero_without_being_written() {
    own_process!();
    let device = device(|config| config.memory_bytes = 8 << 30);
    let program = kernel(
        "mov.u64 %rd1, big;\nadd.s64 %rd1, %rd1, 2999999996;\nld.global.u32 %r1, [%rd1];\n\
        st.global.u32 [%rd1], %r1;",
    )
    .replace(
        ".visible",
        ".global .align 8 .b8 big[3000000000] = {7};\n.visible",
    );
    let start = Instant::now();
    let before = resident();
    let module = Module::parse(&program).expect("the module is good");
    let loaded = device.load(&module).expect("it fits");
    let kernel = loaded.kernel("k").expect("the kernel is there");
    device
        .launch(&kernel, LaunchConfig::linear(1, 1), &[])
        .expect("a variable without values is zero");
    let (taken, held) = (start.elapsed(), resident().saturating_sub(before));
    assert!(held < 256 << 20, "{held} bytes are resident");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    // What nobody wrote stays unwritten where it is copied into such a variable, and the rest
    // written.
    let memory = device.memory();
    let (big, _) = loaded.global("big").expect("the variable is there");
    let mut first = [0];
    memory.read(big, &mut first).expect("inside");
    assert_eq!(first, [7]);
    assert_eq!(memory.is_written(big, 1 << 20), Ok(true));
    let small = text(".global .align 8 .b8 v[4096];\n.visible .entry k() { ret; }\n");
    let loaded = device
        .load(&Module::parse(&small).expect("good"))
        .expect("it fits");
    let (v, _) = loaded.global("v").expect("the variable is there");
    let unwritten = memory.alloc(64).expect("enough memory");
    memory.copy(v + 128, unwritten, 64).expect("inside");
    assert_eq!(memory.is_written(v + 128, 64), Ok(false));
    assert_eq!(memory.is_written(v, 128), Ok(true));
    assert_eq!(memory.is_written(v + 192, 4096 - 192), Ok(true));
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.map_or(0, |kilobytes: usize| kilobytes * 1024)
}

#[test]
fn large_frames_cost_what_is_used_of_them() {
    own_process!();
    let frame = kernel(
        ".local .align 4 .b8 l[524288];\nst.local.u32 [l+65536], 5;\nld.local.u32 %r1, [l+65536];\n\
        ld.local.u32 %r2, [l];",
    );
    let config = LaunchConfig::linear(64, 1024);
    let before = resident();
    let (result, taken, _) = launch(&device(|_| {}), &frame, config);
    assert_eq!(result, Ok(()));
    // A block of them takes more than half of what there is at least.
    let small = device(|config| config.memory_bytes = 1 << 20);
    let (one_at_a_time, ..) = launch(&small, &frame, LaunchConfig::linear(2, 1024));
    assert_eq!(one_at_a_time, Ok(()));
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    assert!(resident().saturating_sub(before) < 1 << 30);
    // 512 KiB for each of 1024 threads, and a device that has less than the blocks that run
    // together take.
    let small = device(|config| config.memory_bytes = 1 << 30);
    let loaded = load(&small, &frame);
    let result = small.launch_cooperative(&loaded, config, &[]);
    let fault = result.expect_err("64 blocks of 512 MiB each");
    assert!(
        matches!(*fault.kind, FaultKind::InvalidLaunch(_)),
        "{fault}"
    );
    let larger = kernel(".local .align 4 .b8 l[524292];\nst.local.u32 [l], 5;");
    let error = Module::parse(&larger).expect_err("more than a thread has");
    assert!(error.message.contains("524288 bytes"), "{error}");
}

#[test]
fn a_panic_of_the_emulator_is_a_report() {
    own_process!();
    // A program that was built wrongly by hand: an instruction names a row that the kernel does not
    // have.
    let module =
        Module::parse(&kernel("mov.u64 %rd1, %clock64;\nst.shared.u64 [0], %rd1;")).expect("good");
    let mut program = module.program().clone();
    program.kernels[0].rows = 0;
    let device = device(|_| {});
    let loaded = device
        .load(&Module::from_program(program))
        .expect("it fits");
    let kernel = loaded.kernel("k").expect("the kernel is there");
    for workers in [LaunchConfig::linear(1, 32), LaunchConfig::linear(64, 32)] {
        let fault = device.launch(&kernel, workers, &[]).expect_err("it panics");
        let report = fault.to_string();
        assert!(matches!(*fault.kind, FaultKind::Internal(_)), "{report}");
        assert!(
            report.contains("internal error of the emulator"),
            "{report}"
        );
        assert!(report.contains(".rs:"), "the file and line: {report}");
        assert!(report.contains("kernel k"), "{report}");
    }
}
