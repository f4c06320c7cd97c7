//! ptx-emulator in place of NVIDIA's driver.

use cudarc::driver::sys;

use crate::error::Error;

/// Whether the driver that cudarc speaks to is the emulator, however it came there.
pub(super) fn is_loaded() -> bool {
    // SAFETY: a context exists, so the library is loaded; the symbol is only looked for, not called.
    unsafe {
        sys::culib()
            .get::<*const ()>(b"ptx_emulator_version\0")
            .is_ok()
    }
}

/// Puts the emulator in the driver's place and returns the ordinal of its device of capability `sm`.
pub(super) fn load(sm: u32) -> Result<usize, Error> {
    Err(Error::NoEmulator {
        reason: format!("this build has no emulator to pose as sm_{sm}"),
    })
}

/// The capability that the emulator poses as where nobody asked for one.
pub(super) fn default_sm() -> u32 {
    90
}

/// What the emulator found wrong last, if anything.
pub(super) fn last_report() -> Option<String> {
    None
}
