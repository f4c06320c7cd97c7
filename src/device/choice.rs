//! Choice of a device.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Choice of a device; written `auto`, `gpu`, `gpu:1`, `emulator`, `emulator:75`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU if there is one, else the emulator. One that is busy or full is there:
    /// that is an error.
    #[default]
    Auto,
    /// The NVIDIA GPU of this ordinal.
    Cuda(usize),
    /// The emulator, posing as a device of compute capability `sm / 10`.
    Emulator {
        /// Compute capability times ten: 75, 80 or 90.
        sm: u32,
    },
}

impl DeviceChoice {
    /// The environment variable that [`DeviceChoice::from_env`] reads.
    pub const VARIABLE: &'static str = "WARPCONV_DEVICE";

    /// The capabilities that the emulator can pose as.
    pub(crate) const EMULATED: [u32; 3] = [75, 80, 90];

    /// The choice that `WARPCONV_DEVICE` names; [`DeviceChoice::Auto`] where it is not set.
    ///
    /// # Errors
    /// [`Error::BadDevice`] if the variable holds something else.
    pub fn from_env() -> Result<DeviceChoice, Error> {
        match std::env::var(DeviceChoice::VARIABLE) {
            Ok(text) if !text.trim().is_empty() => text.trim().parse(),
            _ => Ok(DeviceChoice::Auto),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceChoice, Error> {
        let bad = || Error::BadDevice {
            text: text.to_owned(),
        };
        let (kind, number) = match text.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (text, None),
        };
        match (kind, number) {
            ("auto", None) => Ok(DeviceChoice::Auto),
            ("gpu", None) => Ok(DeviceChoice::Cuda(0)),
            ("gpu", Some(ordinal)) => ordinal.parse().map(DeviceChoice::Cuda).map_err(|_| bad()),
            ("emulator", None) => Ok(DeviceChoice::Emulator { sm: 90 }),
            ("emulator", Some(sm)) => match sm.parse() {
                Ok(sm) if DeviceChoice::EMULATED.contains(&sm) => Ok(DeviceChoice::Emulator { sm }),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cuda(ordinal) => write!(f, "gpu:{ordinal}"),
            DeviceChoice::Emulator { sm } => write!(f, "emulator:{sm}"),
        }
    }
}

/// Kind of a [`Gpu`](super::Gpu).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// An NVIDIA GPU behind NVIDIA's driver.
    Gpu,
    /// The emulator, in the driver's place.
    Emulator,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Gpu => "gpu",
            DeviceKind::Emulator => "emulator",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "auto",
            "gpu:0",
            "gpu:3",
            "emulator:75",
            "emulator:80",
            "emulator:90",
        ] {
            let choice: DeviceChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!(
            "gpu".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        assert_eq!(
            "emulator".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Emulator { sm: 90 }
        );
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "cpu",
            "gpu:",
            "gpu:-1",
            "gpu:x",
            "emulator:",
            "emulator:86",
            "auto:1",
            "gpu:0:1",
        ] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(
                matches!(&error, Error::BadDevice { text: named } if named == text),
                "{error}"
            );
        }
    }
}
