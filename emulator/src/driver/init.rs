//! `cuInit`, the driver's version, the profiler's switches.

use std::ffi::{c_int, c_uint};

use crate::driver::config::Config;
use crate::driver::state::{driver, driver_raw};
use crate::driver::types::{Out, check};

driver! {
    fn cuInit(flags: c_uint) {
        check(flags == 0)?;
        driver_raw().initialize()
    }

    fn cuDriverGetVersion(version: Out<c_int>) {
        version.set(Config::get()?.driver_version)
    }

    fn cuProfilerStart() {
        driver().map(|_| ())
    }

    fn cuProfilerStop() {
        driver().map(|_| ())
    }
}
