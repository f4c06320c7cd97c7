//! Waits between streams: events, and the rules of the legacy stream.

use super::harness::{Driver, LEGACY, NOT_READY, OK, PER_THREAD, SET};

#[test]
fn the_legacy_stream_waits_for_blocking_streams_and_they_for_it() {
    let driver = Driver::new();
    let (blocking, free) = (driver.stream(true), driver.stream(false));
    let gate = driver.gate(blocking);
    let legacy = driver.record(LEGACY);
    let later = [
        driver.record(PER_THREAD),
        driver.record(driver.stream(true)),
    ];
    let not_blocked = driver.record(free);
    assert_eq!(driver.query(legacy), NOT_READY);
    for event in later {
        assert_eq!(driver.query(event), NOT_READY);
    }
    assert_eq!(driver.query(not_blocked), OK);
    gate.open();
    assert_eq!(driver.sync(LEGACY), OK);
    for event in later {
        driver.poll(event);
    }
}

#[test]
fn blocking_streams_do_not_wait_for_each_other() {
    let driver = Driver::new();
    let (first, second) = (driver.stream(true), driver.stream(true));
    let gate = driver.gate(first);
    let event = driver.record(second);
    let own = driver.record(PER_THREAD);
    assert_eq!(driver.query(event), OK);
    assert_eq!(driver.query(own), OK);
    gate.open();
    assert_eq!(driver.sync(first), OK);
}

#[test]
fn the_legacy_stream_holds_back_blocking_streams_only() {
    let driver = Driver::new();
    let gate = driver.gate(LEGACY);
    let blocking = driver.record(driver.stream(true));
    let own = driver.record(PER_THREAD);
    let free = driver.record(driver.stream(false));
    assert_eq!(driver.query(blocking), NOT_READY);
    assert_eq!(driver.query(own), NOT_READY);
    assert_eq!(driver.query(free), OK);
    gate.open();
    assert_eq!(driver.sync_all(), OK);
    assert_eq!(driver.query(blocking), OK);
}

#[test]
fn a_wait_is_for_the_record_before_it() {
    let driver = Driver::new();
    let (first, second, third) = (
        driver.stream(false),
        driver.stream(false),
        driver.stream(false),
    );
    let event = driver.event();
    // Never recorded: no wait.
    driver.wait(second, event);
    assert_eq!(driver.query(driver.record(second)), OK);
    assert_eq!(driver.query(event), OK);
    let record = |stream: super::harness::Stream| {
        // SAFETY: no arguments by address.
        let code = unsafe { cudarc::driver::sys::cuEventRecord(event.0 as _, stream.raw()) };
        assert_eq!(code, OK);
    };
    record(first);
    driver.wait(second, event);
    let gate = driver.gate(first);
    record(first);
    // The second stream waits for the record of then, the third for that of now.
    driver.wait(third, event);
    assert_eq!(driver.query(driver.record(second)), OK);
    let waits = driver.record(third);
    assert_eq!(driver.query(waits), NOT_READY);
    assert_eq!(driver.query(event), NOT_READY);
    // What is waited for stays so though the event is recorded anew, and destroyed.
    record(second);
    assert_eq!(driver.query(event), OK);
    assert_eq!(
        // SAFETY: no arguments by address.
        unsafe { cudarc::driver::sys::cuEventDestroy_v2(event.0 as _) },
        OK
    );
    assert_eq!(driver.query(waits), NOT_READY);
    gate.open();
    driver.poll(waits);
}

#[test]
fn an_event_carries_results_from_stream_to_stream() {
    let driver = Driver::new();
    let kernel = driver.kernel(SET, c"set");
    let streams: Vec<_> = (0..4).map(|_| driver.stream(false)).collect();
    let words: Vec<_> = (0..5).map(|_| driver.memory(1)).collect();
    let gate = driver.gate(streams[0]);
    assert_eq!(driver.launch(streams[0], kernel, words[0], 11), OK);
    for (index, pair) in words.windows(2).enumerate() {
        let event = driver.record(streams[index]);
        if let Some(&next) = streams.get(index + 1) {
            driver.wait(next, event);
            driver.copy(next, pair[1], pair[0], 1);
        }
    }
    gate.open();
    let mut word = [0];
    assert_eq!(driver.download(streams[3], &mut word, words[3]), OK);
    assert_eq!(word, [11]);
}
