//! ptx-emulator in place of NVIDIA's driver.

use cudarc::driver::sys;
#[cfg(feature = "emulator")]
use ptx_emulator::client::Library;

use crate::error::Error;

/// Returns whether the driver that cudarc speaks to is the emulator, however it came there.
pub(super) fn is_loaded() -> bool {
    // SAFETY: a context exists, so the library is loaded; the symbol is only looked for, not
    // called.
    unsafe {
        sys::culib()
            .get::<unsafe extern "C" fn()>(b"ptx_emulator_version\0")
            .is_ok()
    }
}

/// The emulator, if [`load`] has put it in the driver's place.
#[cfg(feature = "emulator")]
static LIBRARY: std::sync::OnceLock<Library> = std::sync::OnceLock::new();

/// Puts the emulator in the driver's place and returns the ordinal of its device of capability
/// `sm`.
#[cfg(feature = "emulator")]
pub(super) fn load(sm: u32) -> Result<usize, Error> {
    use ptx_emulator::client::ClientError;

    let library = Library::load(sm, 1).map_err(|error| match error {
        ClientError::DriverLoaded { .. } => Error::DriverInUse {
            wanted: String::from("the emulator"),
            loaded: String::from("another libcuda.so"),
        },
        other => Error::NoEmulator {
            reason: other.to_string(),
        },
    })?;
    let ordinal = library.ordinals().first().copied();
    let _first_stays = LIBRARY.set(library);
    ordinal.ok_or_else(|| Error::NoEmulator {
        reason: format!("it gave no device of capability {sm}"),
    })
}

/// Puts the emulator in the driver's place: not in this build.
#[cfg(not(feature = "emulator"))]
pub(super) fn load(_sm: u32) -> Result<usize, Error> {
    Err(Error::NoEmulator {
        reason: String::from("this build is without the feature `emulator`"),
    })
}

/// Capability of the emulator if none was asked for: that of its own variable, else 9.0.
pub(super) fn default_sm() -> u32 {
    let named = std::env::var("PTX_EMULATOR_SM").ok();
    let first = named.as_deref().and_then(|list| list.split(',').next());
    let digits = first.map(|text| text.trim().replace('.', ""));
    digits
        .and_then(|sm| sm.parse().ok())
        .filter(|sm| super::DeviceChoice::EMULATED.contains(sm))
        .unwrap_or(90)
}

/// The emulator's side of the process, if it is loaded through this crate.
#[cfg(feature = "emulator")]
pub(super) fn library() -> Option<&'static Library> {
    LIBRARY.get()
}

/// Report of the emulator for the status that a driver call returned.
pub(super) fn report(_code: u32) -> Option<String> {
    #[cfg(feature = "emulator")]
    if let Some(report) = library().and_then(Library::last_report) {
        return (report.code == _code).then_some(report.text);
    }
    None
}
