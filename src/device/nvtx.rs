//! NVTX ranges: the names that a profiler shows for launches. In a process without a profiler a
//! [`Label`] is empty, and its text is never formatted.

mod ranges;

use std::ffi::{CStr, CString};
use std::sync::Arc;

/// The text of a range; empty where no profiler listens.
#[derive(Clone, Debug)]
pub(crate) struct Label(Option<Arc<CStr>>);

impl Label {
    /// Formats the text if a profiler listens.
    pub(crate) fn new(text: impl FnOnce() -> String) -> Label {
        if !ranges::listened_to() {
            return Label(None);
        }
        // A text with a NUL, which no problem's has, gets no range.
        Label(CString::new(text()).ok().map(Arc::from))
    }

    /// Opens a range in this thread, which ends when the value is dropped.
    pub(crate) fn range(&self) -> Range {
        let text = self.0.as_deref();
        Range {
            open: text.is_some_and(ranges::push),
        }
    }
}

/// An open range of this thread. Ranges are nested: the last one opened ends first.
#[must_use]
pub(crate) struct Range {
    open: bool,
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.open {
            ranges::pop();
        }
    }
}
