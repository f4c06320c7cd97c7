//! Names and descriptions of error codes.

use std::ffi::c_char;

use crate::driver::status::CUresult;
use crate::driver::types::{Out, check};

driver! {
    fn cuGetErrorName(error: CUresult, name: Out<*const c_char>) {
        check(!name.is_null())?;
        let text = error.describe();
        name.set(text.map_or(std::ptr::null(), |(name, _)| name.as_ptr()))?;
        text.map(|_| ()).ok_or(CUresult::INVALID_VALUE)
    }

    fn cuGetErrorString(error: CUresult, string: Out<*const c_char>) {
        check(!string.is_null())?;
        let text = error.describe();
        string.set(text.map_or(std::ptr::null(), |(_, string)| string.as_ptr()))?;
        text.map(|_| ()).ok_or(CUresult::INVALID_VALUE)
    }
}
