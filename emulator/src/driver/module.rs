//! Modules: PTX text in, functions and variables out.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use crate::LoadError;
use crate::driver::config::{self, Config};
use crate::driver::current::healthy;
use crate::driver::module_file;
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::state::{
    Allocation, AllocationKind, ClusterSettings, Context, Function, Module, driver,
};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, Handle, In, Out, check, text};

/// Reason why a module was refused: the code, and the text for the compiler's log.
struct Refusal {
    code: CUresult,
    log: String,
}

impl Refusal {
    /// Writes the reason to standard error and returns the code.
    fn tell(&self) -> CUresult {
        config::report(&format!(
            "ptx-emulator: module refused ({}): {}",
            self.code.name(),
            self.log
        ));
        self.code
    }
}

/// The newest PTX ISA that a driver of a CUDA version supports, as major * 10 + minor: the table
/// "PTX Release History" of the PTX ISA. Drivers newer than 13.5 are treated as 13.5.
fn newest_ptx(driver_version: i32) -> u32 {
    match driver_version {
        ..11020 => 71,
        11020..11040 => 73,
        11040..11050 => 74,
        11050..11060 => 75,
        11060..11070 => 76,
        11070..11080 => 77,
        11080..12000 => 78,
        12000..12010 => 80,
        12010..12020 => 81,
        12020..12030 => 82,
        12030..12040 => 83,
        12040..12050 => 84,
        12050..12070 => 85,
        12070..12080 => 86,
        12080..12090 => 87,
        12090..13000 => 88,
        13000..13010 => 90,
        13010..13020 => 91,
        13020..13030 => 92,
        13030..13040 => 93,
        13040..13050 => 94,
        _ => 95,
    }
}

/// The first word after `directive` on a line that begins with it; comments are not parsed.
fn directive<'a>(ptx: &'a str, directive: &str) -> Option<&'a str> {
    ptx.lines().find_map(|line| {
        line.trim_start()
            .strip_prefix(directive)?
            .split_whitespace()
            .next()
    })
}

/// Checks versions and targets, as a driver does before it compiles.
fn admissible(ptx: &str, capability: u32) -> std::result::Result<(), Refusal> {
    let newest = newest_ptx(Config::get().map_or(13000, |config| config.driver_version));
    let version = directive(ptx, ".version").and_then(|version| {
        let (major, minor) = version.split_once('.')?;
        let major = major.parse::<u32>().ok()?.checked_mul(10)?;
        major.checked_add(minor.parse::<u32>().ok()?)
    });
    if let Some(version) = version.filter(|&version| version > newest) {
        let log = format!(
            "the module is of PTX version {}.{}; the posed driver reads up to {}.{}",
            version / 10,
            version % 10,
            newest / 10,
            newest % 10
        );
        return Err(Refusal {
            code: CUresult::UNSUPPORTED_PTX_VERSION,
            log,
        });
    }
    let target = directive(ptx, ".target").and_then(|target| {
        let name = target.split(',').next()?.trim();
        let number = name.strip_prefix("sm_")?;
        let digits = number.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        Some((digits.parse::<u32>().ok()?, digits.len() < number.len()))
    });
    match target {
        Some((sm, specific)) if sm > capability || (specific && sm != capability) => {
            let suffix = if specific { "a" } else { "" };
            let log =
                format!("the module's target is sm_{sm}{suffix}, the device is sm_{capability}");
            Err(Refusal {
                code: CUresult::INVALID_PTX,
                log,
            })
        }
        _ => Ok(()),
    }
}

/// The text of a module image. Cubins and fat binaries are not supported.
fn image_text<'a>(image: *const c_void) -> Result<&'a str> {
    check(!image.is_null())?;
    let at = |index: usize| In(image.cast::<u8>()).at(index);
    let binary = match at(0)? {
        0x7f => at(1)? == b'E' && at(2)? == b'L' && at(3)? == b'F',
        0x50 => at(1)? == 0xed && at(2)? == 0x55 && at(3)? == 0xba,
        0xb1 => at(1)? == 0x43 && at(2)? == 0x62 && at(3)? == 0x46,
        _ => false,
    };
    if binary {
        config::report(
            "ptx-emulator: a module image is machine code or a fat binary; only PTX text can be \
            executed",
        );
        return Err(CUresult::NO_BINARY_FOR_GPU);
    }
    // SAFETY: an image that is not binary is text with a NUL at its end, as the caller of the
    // driver guarantees.
    let text = unsafe { CStr::from_ptr(image.cast()) };
    text.to_str().map_err(|_| CUresult::INVALID_IMAGE)
}

fn load(context: &Arc<Context>, ptx: &str) -> std::result::Result<Arc<Module>, Refusal> {
    let refused = |code| {
        move |error: LoadError| Refusal {
            code,
            log: error.to_string(),
        }
    };
    if directive(ptx, ".version").is_none() {
        return Err(Refusal {
            code: CUresult::INVALID_IMAGE,
            log: "the image is not PTX: no .version".to_owned(),
        });
    }
    let device = &context.device;
    admissible(ptx, device.card.capability)?;
    let module = crate::Module::parse(ptx).map_err(refused(CUresult::INVALID_PTX))?;
    let loaded = device
        .backend
        .load(&module)
        .map_err(refused(CUresult::OUT_OF_MEMORY))?;
    let mut allocations = lock(&device.allocations);
    for global in &module.program().globals {
        if let Some((address, bytes)) = loaded.global(&global.name) {
            let kind = AllocationKind::Module;
            allocations.insert(
                address,
                Allocation {
                    bytes: bytes.max(1),
                    context: context.handle,
                    kind,
                },
            );
        }
    }
    drop(allocations);
    let driver = driver().map_err(|code| Refusal {
        code,
        log: String::new(),
    })?;
    Ok(driver.modules.insert(|handle| Module {
        handle,
        context: context.handle,
        program: module,
        loaded,
        functions: Mutex::new(HashMap::new()),
    }))
}

/// Loads text; the reason of a failure goes to standard error and to `log`.
fn load_text(out: Out<Handle>, ptx: &str, log: impl FnOnce(&str)) -> Result {
    check(!out.is_null())?;
    let context = healthy()?;
    match load(&context, ptx) {
        Ok(module) => out.set(module.handle),
        Err(refusal) => {
            log(&refusal.log);
            Err(refusal.tell())
        }
    }
}

/// Reads the text of a module file.
fn file_text(path: &Path) -> std::result::Result<String, Refusal> {
    let bytes = module_file::read(path, module_file::MOST_BYTES)
        .map_err(|(code, log)| Refusal { code, log })?;
    if bytes.starts_with(b"\x7fELF") {
        return Err(Refusal {
            code: CUresult::NO_BINARY_FOR_GPU,
            log: format!("{}: it is machine code", path.display()),
        });
    }
    String::from_utf8(bytes).map_err(|_| Refusal {
        code: CUresult::INVALID_IMAGE,
        log: format!("{}: it is no text", path.display()),
    })
}

/// Address of the error log of `cuModuleLoadDataEx`: option 5 with its size in option 6.
fn error_log(
    count: c_uint,
    options: In<c_uint>,
    values: In<usize>,
) -> Result<Option<(Out<c_char>, c_int)>> {
    let (mut buffer, mut bytes) = (None, 0);
    for index in 0..count as usize {
        match options.at(index)? {
            5 => buffer = Some(Out(values.at(index)? as *mut c_char)),
            6 => bytes = c_int::try_from(values.at(index)?).unwrap_or(c_int::MAX),
            _ => {}
        }
    }
    Ok(buffer
        .filter(|buffer| !buffer.is_null() && bytes > 0)
        .map(|buffer| (buffer, bytes)))
}

/// The function of a module; its handle is created once per name.
fn function(module: &Arc<Module>, name: &str) -> Result<Handle> {
    let mut functions = lock(&module.functions);
    if let Some(&handle) = functions.get(name) {
        return Ok(handle);
    }
    let kernel = module.loaded.kernel(name).ok_or(CUresult::NOT_FOUND)?;
    let c_name = CString::new(name).map_err(|_| CUresult::INVALID_VALUE)?;
    // The static part, padded to the alignment of the dynamic part, as in a launch.
    let taken = kernel.kernel().dynamic_shared_offset();
    let room = (crate::driver::device_profiles::SHARED_PER_BLOCK as u32).saturating_sub(taken);
    let made = driver()?.functions.insert(|handle| Function {
        handle,
        module: module.clone(),
        kernel,
        name: c_name,
        max_dynamic_shared: AtomicU32::new(room),
        carveout: AtomicU32::new(u32::MAX),
        cluster: ClusterSettings::default(),
    });
    functions.insert(name.to_owned(), made.handle);
    Ok(made.handle)
}

driver! {
    fn cuModuleLoad(out: Out<Handle>, path: In<c_char>) {
        healthy()?;
        let ptx = file_text(Path::new(&text(path)?)).map_err(|refusal| refusal.tell())?;
        load_text(out, ptx.trim_end_matches('\0'), |_| ())
    }

    fn cuModuleLoadData(out: Out<Handle>, image: *const c_void) {
        healthy()?;
        load_text(out, image_text(image)?, |_| ())
    }

    fn cuModuleLoadDataEx(
        out: Out<Handle>,
        image: *const c_void,
        count: c_uint,
        options: In<c_uint>,
        values: In<usize>,
    ) {
        healthy()?;
        let buffer = error_log(count, options, values)?;
        load_text(out, image_text(image)?, |log| {
            if let Some((buffer, bytes)) = buffer {
                let _ = crate::driver::types::copy_text(log, buffer, bytes);
            }
        })
    }

    fn cuModuleLoadFatBinary(_out: Out<Handle>, _image: *const c_void) {
        healthy()?;
        Err(CUresult::NO_BINARY_FOR_GPU)
    }

    fn cuModuleUnload(handle: Handle) {
        let context = healthy()?;
        let driver = driver()?;
        driver.modules.get(handle)?;
        queue::wait(queue::Target::Context(context.handle))?;
        context.healthy()?;
        let module = driver.modules.remove(handle)?;
        driver.functions.retain(|function| function.module.handle != handle);
        let mut allocations = lock(&context.device.allocations);
        for global in &module.program.program().globals {
            if let Some((address, _)) = module.loaded.global(&global.name) {
                allocations.remove(&address);
            }
        }
        Ok(())
    }

    fn cuModuleGetFunction(out: Out<Handle>, handle: Handle, name: In<c_char>) {
        check(!out.is_null())?;
        healthy()?;
        let module = driver()?.modules.get(handle)?;
        out.set(function(&module, &text(name)?)?)
    }

    fn cuModuleGetFunctionCount(out: Out<c_uint>, handle: Handle) {
        let module = driver()?.modules.get(handle)?;
        out.set(module.program.program().kernels.len() as c_uint)
    }

    fn cuModuleEnumerateFunctions(out: Out<Handle>, count: c_uint, handle: Handle) {
        let module = driver()?.modules.get(handle)?;
        for (index, kernel) in module.program.program().kernels.iter().take(count as usize)
            .enumerate() {
            Out(out.0.wrapping_add(index)).set(function(&module, &kernel.name)?)?;
        }
        Ok(())
    }

    fn cuModuleGetGlobal_v2(
        out: Out<DevicePtr>, bytes: Out<usize>, handle: Handle, name: In<c_char>,
    ) {
        healthy()?;
        let module = driver()?.modules.get(handle)?;
        let (address, size) = module.loaded.global(&text(name)?).ok_or(CUresult::NOT_FOUND)?;
        out.set_if_wanted(address);
        bytes.set_if_wanted(size as usize);
        Ok(())
    }

    fn cuModuleGetLoadingMode(mode: Out<c_uint>) {
        // CU_MODULE_EAGER_LOADING
        driver()?;
        mode.set(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_targets_are_checked() {
        let refused = |ptx: &str, capability| {
            admissible(ptx, capability)
                .err()
                .map(|refusal| refusal.code)
        };
        assert_eq!(refused(".version 6.3\n.target sm_75\n", 75), None);
        assert_eq!(
            refused("// text\n.version 9.9\n.target sm_75\n", 75),
            Some(CUresult::UNSUPPORTED_PTX_VERSION)
        );
        assert_eq!(
            refused(".version 7.0\n.target sm_80\n", 75),
            Some(CUresult::INVALID_PTX)
        );
        assert_eq!(refused(".version 8.0\n.target sm_90a, debug\n", 90), None);
        assert_eq!(refused(".version 7.0\n.target sm_80\n", 90), None);
    }

    #[test]
    fn drivers_read_the_ptx_of_their_time() {
        assert_eq!(newest_ptx(11040), 74);
        assert_eq!(newest_ptx(12060), 85);
        for (driver, ptx) in [
            (13000, 90),
            (13010, 91),
            (13020, 92),
            (13030, 93),
            (13040, 94),
        ] {
            assert_eq!(newest_ptx(driver), ptx);
        }
        assert_eq!(newest_ptx(13050), 95);
        assert_eq!(newest_ptx(14000), 95);
    }
}
