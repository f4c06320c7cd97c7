//! The three schedules: what a missing wait gives under each, and that a seed is an order.

use super::harness::{
    APPEND, AWAIT, Driver, Gate, MOMENT, NOT_READY, OK, SET, alone, alone_with, pass, process,
    schedule,
};
use cudarc::driver::sys;

/// Writes in one stream and reads in another, with the wait between or without; what was read.
fn handed_over(with_wait: bool) -> u32 {
    let driver = Driver::new();
    let (writer, reader) = (driver.stream(false), driver.stream(false));
    let memory = driver.memory(1);
    let kernel = driver.kernel(SET, c"set");
    assert_eq!(driver.launch(writer, kernel, memory, 8), OK);
    if with_wait {
        let event = driver.record(writer);
        driver.wait(reader, event);
    }
    let mut word = [u32::MAX];
    assert_eq!(driver.download(reader, &mut word, memory), OK);
    word[0]
}

/// Child process of [`lazy_shows_a_missing_wait`]: one stream reads what another writes, with and
/// without a wait.
#[test]
#[ignore = "child process of lazy_shows_a_missing_wait"]
fn child_missing_wait() {
    assert_eq!(schedule(), "lazy");
    assert_eq!(handed_over(true), 8);
    // The reader needs nothing of the writer's, so that has not run.
    assert_eq!(handed_over(false), 0);
}

#[test]
fn lazy_shows_a_missing_wait() {
    alone("streams::schedules::child_missing_wait", "lazy");
    assert_eq!(handed_over(true), 8);
}

/// Child process of [`lazy_shows_a_missing_wait_behind_a_synchronous_copy`]: a kernel reads the
/// target of a copy.
#[test]
#[ignore = "child process of lazy_shows_a_missing_wait_behind_a_synchronous_copy"]
fn child_synchronous_copy() {
    let driver = Driver::new();
    let (x, y) = (driver.memory(1), driver.memory(1));
    let stream = driver.stream(false);
    let host = [9u32];
    // SAFETY: the ranges are as long as the copy.
    let copied = unsafe { sys::cuMemcpyHtoD_v2(x, host.as_ptr().cast(), 4) };
    assert_eq!(copied, OK);
    // "The DMA to final destination may not have completed", and this stream does not wait for the
    // legacy one.
    driver.copy(stream, y, x, 1);
    let mut word = [u32::MAX];
    assert_eq!(driver.download(stream, &mut word, y), OK);
    assert_eq!(word, [0]);
    let blocking = driver.stream(true);
    driver.copy(blocking, y, x, 1);
    assert_eq!(driver.download(blocking, &mut word, y), OK);
    assert_eq!(word, [9]);
}

#[test]
fn lazy_shows_a_missing_wait_behind_a_synchronous_copy() {
    alone("streams::schedules::child_synchronous_copy", "lazy");
}

/// Child process of [`a_seed_is_an_order`]. Six kernels in each of four streams write into one log;
/// the log is printed.
#[test]
#[ignore = "child process of a_seed_is_an_order"]
fn child_print_order() {
    let driver = Driver::new();
    let kernel = driver.kernel(APPEND, c"append");
    let log = driver.memory(25);
    let streams: Vec<_> = (0..4).map(|_| driver.stream(false)).collect();
    for step in 0..6 {
        for (index, &stream) in streams.iter().enumerate() {
            let value = (10 * index + step) as u64;
            assert_eq!(driver.launch(stream, kernel, log, value), OK);
        }
    }
    assert_eq!(driver.sync_all(), OK);
    let mut words = [0; 25];
    assert_eq!(driver.download(streams[0], &mut words, log), OK);
    println!("order {words:?}");
}

#[test]
fn a_seed_is_an_order() {
    let order = |schedule: &str| {
        let output = alone("streams::schedules::child_print_order", schedule);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("order ["));
        line.expect("the order is printed").to_owned()
    };
    let first = order("random:1");
    assert_eq!(first, order("random:1"));
    let others: Vec<_> = (2..5)
        .map(|seed| order(&format!("random:{seed}")))
        .collect();
    assert!(others.iter().any(|other| *other != first), "{first}");
    // Lazy runs in the order of submission what one wait needs.
    let submitted: Vec<_> = (0..6)
        .flat_map(|step| (0..4).map(move |index| 10 * index + step))
        .collect();
    assert!(order("lazy").contains(&format!("{submitted:?}").replace('[', "[24, ")));
}

/// Child process of [`a_process_ends_with_work_left`]. Ends with work that has not begun, and with
/// a host function that never ends.
#[test]
#[ignore = "child process of a_process_ends_with_work_left"]
fn child_leave_work() {
    let driver = Driver::new();
    let stream = driver.stream(true);
    let kernel = driver.kernel(SET, c"set");
    let memory = driver.memory(1);
    driver.host(stream, pass, std::ptr::from_ref(Gate::new()) as *mut _);
    for _ in 0..10 {
        assert_eq!(driver.launch(stream, kernel, memory, 1), OK);
    }
    let busy = driver.stream(false);
    for _ in 0..2000 {
        assert_eq!(driver.launch(busy, kernel, memory, 1), OK);
    }
    std::process::exit(0);
}

#[test]
fn a_process_ends_with_work_left() {
    for schedule in ["eager", "lazy", "random:1"] {
        alone("streams::schedules::child_leave_work", schedule);
    }
}

/// A kernel waits for what a kernel of another stream writes; what the wait for it gives.
fn awaited() -> sys::CUresult {
    let driver = Driver::new();
    let (first, second) = (driver.stream(false), driver.stream(false));
    let memory = driver.memory(1);
    let wait = driver.kernel(AWAIT, c"await_word");
    let set = driver.kernel(SET, c"set");
    assert_eq!(driver.launch(first, wait, memory, 3), OK);
    assert_eq!(driver.launch(second, set, memory, 3), OK);
    driver.sync(first)
}

/// Child process of [`small_kernels_overlap`]: two threads for blocks suffice for both kernels.
#[test]
#[ignore = "child process of small_kernels_overlap"]
fn child_kernels_overlap() {
    assert_eq!(awaited(), OK);
}

/// Child process of [`small_kernels_overlap`]: one thread for blocks does not.
#[test]
#[ignore = "child process of small_kernels_overlap"]
fn child_kernels_do_not_overlap() {
    assert_eq!(awaited(), sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT);
}

/// Child process of [`small_kernels_overlap`]: the kernel submitted first starts first.
#[test]
#[ignore = "child process of small_kernels_overlap"]
fn child_earlier_kernels_start_first() {
    let driver = Driver::new();
    let streams: Vec<_> = (0..4).map(|_| driver.stream(false)).collect();
    let (awaited, x, y) = (driver.memory(1), driver.memory(1), driver.memory(1));
    let wait = driver.kernel(AWAIT, c"await_word");
    let set = driver.kernel(SET, c"set");
    assert_eq!(driver.launch(streams[0], wait, awaited, 3), OK);
    // Two blocks find no room beside the one that runs, and one block would; but it came later.
    assert_eq!(driver.launch_blocks(2, streams[1], set, x, 5), OK);
    assert_eq!(driver.launch(streams[2], set, y, 7), OK);
    let late = driver.record(streams[2]);
    std::thread::sleep(MOMENT);
    assert_eq!(driver.query(late), NOT_READY);
    driver.fill(streams[3], awaited, 3, 1);
    assert_eq!(driver.sync_all(), OK);
    assert_eq!([driver.word(x), driver.word(y)], [5, 7]);
}

#[test]
fn small_kernels_overlap() {
    let with = |test, threads, seconds| {
        let eager = ("PTX_EMULATOR_SCHEDULE", "eager");
        let threads = ("PTX_EMULATOR_THREADS", threads);
        alone_with(test, &[threads, ("PTX_EMULATOR_SECONDS", seconds), eager]);
    };
    with("streams::schedules::child_kernels_overlap", "2", "30");
    with(
        "streams::schedules::child_earlier_kernels_start_first",
        "2",
        "30",
    );
    // One thread runs one block at a time, and with it one kernel.
    with("streams::schedules::child_kernels_do_not_overlap", "1", "1");
}

#[test]
fn other_schedules() {
    if schedule() != "eager" {
        return;
    }
    for other in ["lazy", "random:1", "random:2"] {
        process(
            &[
                "streams::",
                "--skip",
                "streams::schedules::",
                "--skip",
                "ordering::",
            ],
            &[("PTX_EMULATOR_SCHEDULE", other)],
        );
    }
}
