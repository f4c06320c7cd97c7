//! Containment of the emulator's panics, which must not reach the program that uses it.
//!
//! [`contain`] is the only way to run code that might panic: at the C interface of the driver API,
//! on the threads that run blocks, and for parsing, loading and launching through the Rust API. A
//! caught panic becomes a [`Panic`] with its message, file and line. The caller converts it to an
//! error or a [`Fault`](crate::Fault).

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// A panic of the emulator that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panic {
    /// Message of the panic.
    pub message: String,
    /// `file:line`, where known.
    pub place: Option<String>,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "internal error of the emulator: {}", self.message)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        write!(f, "; please report it with the PTX")
    }
}

thread_local! {
    /// Number of active calls of [`contain`] on this thread, and the latest panic inside of them.
    static CONTAINED: RefCell<(usize, Option<Panic>)> = const { RefCell::new((0, None)) };
}

/// Stores a panic of a thread inside [`contain`]; returns whether it was inside.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = info
        .location()
        .map(|place| format!("{}:{}", place.file(), place.line()));
    CONTAINED
        .try_with(|contained| match contained.try_borrow_mut() {
            Ok(mut contained) if contained.0 > 0 => {
                contained.1 = Some(Panic {
                    message: text.unwrap_or("a panic without a message").to_owned(),
                    place,
                });
                true
            }
            _ => false,
        })
        .unwrap_or(false)
}

/// Installs a panic hook before the process's own: only a hook receives the location of a panic.
/// Panics outside of [`contain`] are passed on.
fn install() {
    static INSTALL: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    INSTALL.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !note(info) {
                before(info);
            }
        }));
    });
}

/// Runs `body`; a panic inside of it is returned.
///
/// State that `body` was modifying is left as it is: the caller must drop it, or accept any state
/// of it.
pub(crate) fn contain<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    install();
    let change = |by: isize| {
        let _ = CONTAINED.try_with(|contained| {
            if let Ok(mut contained) = contained.try_borrow_mut() {
                contained.0 = contained.0.saturating_add_signed(by);
            }
        });
    };
    change(1);
    let result = catch_unwind(AssertUnwindSafe(body));
    change(-1);
    result.map_err(|payload| {
        // The payload's destructor could panic as well.
        std::mem::forget(payload);
        let noted = CONTAINED
            .try_with(|contained| contained.try_borrow_mut().ok()?.1.take())
            .ok()
            .flatten();
        noted.unwrap_or(Panic {
            message: "a panic without a message".to_owned(),
            place: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        assert_eq!(contain(|| 5), Ok(5));
        let index = std::hint::black_box(7);
        let panic = contain(|| [1, 2, 3][index]).expect_err("past the end");
        assert!(panic.message.contains("index out of bounds"), "{panic}");
        let place = panic.place.expect("a place");
        assert!(place.contains("panics.rs:"), "{place}");
        // Nested calls, and a panic caught inside.
        let outer = contain(|| {
            let inner = contain(|| std::panic::panic_any(5u8)).expect_err("it panics");
            assert!(inner.message.contains("without a message"));
            panic!("outer {}", 1)
        });
        assert_eq!(
            outer.map_err(|panic: Panic| panic.message),
            Err::<(), _>("outer 1".to_owned())
        );
    }
}
