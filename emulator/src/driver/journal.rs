//! Launches and reports since the last reset, for the client.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::driver::config;
use crate::driver::registry::lock;
use crate::driver::status::CUresult;
use crate::{Counters, LaunchConfig};

/// Number of launches that are stored individually; older ones only count in the totals.
const REMEMBERED: usize = 4096;

/// A successful launch.
pub struct Record {
    pub kernel: String,
    pub ordinal: usize,
    pub config: LaunchConfig,
    pub nanoseconds: u64,
    pub counters: Counters,
}

/// Launches and reports since the last reset.
pub struct Journal {
    pub launches: u64,
    pub total: Option<Counters>,
    pub records: VecDeque<Record>,
    pub report: Option<String>,
    pub code: u32,
}

/// The journal of the process.
pub static JOURNAL: Mutex<Journal> = Mutex::new(Journal {
    launches: 0,
    total: None,
    records: VecDeque::new(),
    report: None,
    code: 0,
});

/// Stores a launch.
pub fn note_launch(record: Record) {
    let mut journal = lock(&JOURNAL);
    journal.launches += 1;
    *journal.total.get_or_insert_with(Counters::default) += &record.counters;
    if journal.records.len() == REMEMBERED {
        journal.records.pop_front();
    }
    journal.records.push_back(record);
}

/// Stores a fault's report.
pub fn note_fault(report: String, code: CUresult) {
    let mut journal = lock(&JOURNAL);
    journal.report = Some(report);
    journal.code = code.0;
}

/// Error of a task whose memory was freed. It is reported like a kernel's fault.
pub fn gone(what: &str, address: u64, bytes: usize) -> CUresult {
    let report = format!(
        "use after free: {what} of {bytes} bytes at {address:#x}; its allocation was freed after \
        the call that submitted \
         the work and before the stream came to it"
    );
    config::report(&format!("ptx-emulator: {report}"));
    note_fault(report, CUresult::ILLEGAL_ADDRESS);
    CUresult::ILLEGAL_ADDRESS
}
