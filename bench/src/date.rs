//! The date of a measurement, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// The current time, as `2026-11-22 17:40`.
pub fn now() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    utc(seconds)
}

/// Formats seconds since 1970 as a date and a time of day.
pub fn utc(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= length_of(year) {
        days -= length_of(year);
        year += 1;
    }
    let mut month = 0;
    while days >= month_length(year, month) {
        days -= month_length(year, month);
        month += 1;
    }
    let (hour, minute) = (rest / 3600, rest % 3600 / 60);
    format!(
        "{year}-{:02}-{:02} {hour:02}:{minute:02}",
        month + 1,
        days + 1
    )
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn length_of(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

/// Number of days of a month; months count from 0.
fn month_length(year: u64, month: u64) -> u64 {
    match month {
        1 => 28 + u64::from(is_leap(year)),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}
