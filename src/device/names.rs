//! Names of device choices and kinds.

use std::fmt;
use std::str::FromStr;

use super::{DeviceChoice, DeviceKind};
use crate::error::Error;

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

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Gpu => "gpu",
            DeviceKind::Emulator => "emulator",
        })
    }
}
