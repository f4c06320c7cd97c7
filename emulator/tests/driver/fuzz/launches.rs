//! Hostile calls of the driver API: sizes, handles, attributes and null pointers that CUDA answers
//! with an error. Pointers to host memory that a caller vouches for are good ones; what they point
//! to is not.
//!
//! A call may fail with any code but `CUDA_ERROR_UNKNOWN`, which stands for a panic inside of the
//! library, and no report may speak of one. A context that a fault has broken is replaced.

use super::mutate::{NUMBERS_OF_LAUNCHES, Random};
use super::setting;
use cudarc::driver::sys::{self, CUfunction_attribute as Attribute, CUresult};
use ptx_emulator::client::Library;
use std::ffi::{CString, c_uint, c_void};
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::time::Duration;

const KERNELS: &str = r#"
.version 7.8
.target sm_80
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.global .align 1 .b8 fmt[8] = {104, 105, 10, 0};
.visible .entry nothing() { ret; }
.visible .entry endless() { L: bra L; }
.visible .entry store(.param .u64 p, .param .u32 n)
.maxntid 256, 1, 1
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    .shared .align 16 .b8 s[1024];
    .local .align 16 .b8 l[4096];
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd2, %r2, %r1;
    add.s64 %rd1, %rd1, %rd2;
    st.global.u32 [%rd1], %r2;
    ret;
}
.visible .entry shape() .reqntid 65536, 65536, 65536 { ret; }
.visible .entry print()
{
    .reg .b64 %rd<3>;
    mov.u64 %rd1, fmt;
    mov.u64 %rd2, 0;
    {
        .param .b64 a;
        st.param.b64 [a], %rd1;
        .param .b64 b;
        st.param.b64 [b], %rd2;
        .param .b32 r;
        call (r), vprintf, (a, b);
    }
    ret;
}
"#;

/// State of one caller: handles that are good, and some that were.
struct Caller {
    context: sys::CUcontext,
    module: sys::CUmodule,
    functions: Vec<sys::CUfunction>,
    streams: Vec<sys::CUstream>,
    memory: Vec<u64>,
    host: Vec<*mut c_void>,
}

/// A null pointer, for handles and results.
fn null<T>() -> *mut T {
    std::ptr::null_mut()
}

impl Caller {
    fn new(device: i32) -> Caller {
        let mut caller = Caller {
            context: null(),
            module: null(),
            functions: Vec::new(),
            streams: vec![null()],
            memory: vec![0],
            host: vec![null()],
        };
        let text = CString::new(KERNELS).expect("no NUL");
        // SAFETY: places for the results, and C strings.
        unsafe {
            good(sys::cuCtxCreate_v2(&mut caller.context, 0, device));
            good(sys::cuModuleLoadData(
                &mut caller.module,
                text.as_ptr().cast(),
            ));
            for name in [c"nothing", c"endless", c"store", c"shape", c"print"] {
                let mut function = null();
                good(sys::cuModuleGetFunction(
                    &mut function,
                    caller.module,
                    name.as_ptr(),
                ));
                caller.functions.push(function);
            }
        }
        caller.functions.push(null());
        caller
    }

    fn function(&self, random: &mut Random) -> sys::CUfunction {
        match random.below(20) {
            0 => self.context.cast(),
            1 => std::ptr::without_provenance_mut(random.next() as usize),
            _ => *random.pick(&self.functions),
        }
    }

    fn stream(&self, random: &mut Random) -> sys::CUstream {
        match random.below(20) {
            0 => self.module.cast(),
            1 => std::ptr::without_provenance_mut(random.next() as usize),
            2 => std::ptr::without_provenance_mut(1),
            3 => std::ptr::without_provenance_mut(2),
            _ => *random.pick(&self.streams),
        }
    }

    fn address(&self, random: &mut Random) -> u64 {
        let base = *random.pick(&self.memory);
        match random.below(6) {
            0 => size(random),
            1 => base.wrapping_add(size(random)),
            _ => base,
        }
    }

    /// One call.
    fn call(&mut self, random: &mut Random) -> CUresult {
        let (n, address) = (size(random) as usize, self.address(random));
        let (function, stream) = (self.function(random), self.stream(random));
        let mut result = 0u64;
        // SAFETY: every pointer to host memory is null or leads to a place for the result; sizes
        // that belong to such memory are its own.
        unsafe {
            match random.below(27) {
                0..=5 => self.launch(function, stream, random),
                6 => {
                    let code = sys::cuMemAlloc_v2(&mut result, n);
                    self.note(code, result);
                    code
                }
                7 => sys::cuMemFree_v2(address),
                8 => sys::cuMemsetD8_v2(address, 7, n),
                9 => sys::cuMemsetD32Async(address, 7, n, stream),
                10 => sys::cuMemsetD2D16_v2(address, n, 7, size(random) as usize, n),
                11 => sys::cuMemcpyDtoD_v2(address, self.address(random), n),
                12 => {
                    let mut bytes = [0u8; 64];
                    sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, n.min(64))
                }
                13 => {
                    let bytes = [0u8; 64];
                    sys::cuMemcpyHtoDAsync_v2(address, bytes.as_ptr().cast(), n.min(64), null())
                }
                14 => {
                    let mut pointer = null();
                    let code = sys::cuMemHostAlloc(&mut pointer, n, size(random) as c_uint & 7);
                    if code == CUresult::CUDA_SUCCESS {
                        self.host.push(pointer);
                    }
                    code
                }
                15 => sys::cuMemFreeHost(*random.pick(&self.host)),
                16 => {
                    let code = sys::cuMemAllocAsync(&mut result, n, stream);
                    self.note(code, result);
                    code
                }
                17 => {
                    let code = sys::cuMemAllocManaged(&mut result, n, 1);
                    self.note(code, result);
                    code
                }
                18 => {
                    let mut made = null();
                    let code =
                        sys::cuStreamCreateWithPriority(&mut made, n as c_uint & 3, n as i32);
                    if code == CUresult::CUDA_SUCCESS {
                        self.streams.push(made);
                    }
                    code
                }
                19 if stream as usize > 2 => sys::cuStreamDestroy_v2(stream),
                20 => {
                    let attribute = *random.pick(&[
                        Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                        Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                        Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS,
                    ]);
                    sys::cuFuncSetAttribute(function, attribute, n as i32)
                }
                21 => {
                    let mut blocks = 0;
                    sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                        &mut blocks,
                        function,
                        size(random) as i32,
                        n,
                    )
                }
                22 => {
                    let mut value = 0;
                    let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
                    sys::cuFuncGetAttribute(&mut value, attribute, function)
                }
                24 | 25 => self.copy(random),
                23 => {
                    let limit = sys::CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE;
                    sys::cuCtxSetLimit(limit, n)
                }
                _ => sys::cuStreamSynchronize(stream),
            }
        }
    }

    fn note(&mut self, code: CUresult, address: u64) {
        if code == CUresult::CUDA_SUCCESS {
            self.memory.push(address);
        }
    }

    /// A copy of rows or planes inside of device memory.
    ///
    /// # Safety
    /// None that the caller must see to.
    unsafe fn copy(&self, random: &mut Random) -> CUresult {
        let device = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
        let (from, to) = (self.address(random), self.address(random));
        let mut any = || size(random) as usize;
        // SAFETY: descriptions are plain numbers, of which zeros are good, and kinds of memory,
        // which are written.
        unsafe {
            let mut rows = MaybeUninit::<sys::CUDA_MEMCPY2D>::zeroed();
            (&raw mut (*rows.as_mut_ptr()).srcMemoryType).write(device);
            (&raw mut (*rows.as_mut_ptr()).dstMemoryType).write(device);
            let mut rows = rows.assume_init();
            (rows.srcDevice, rows.dstDevice) = (from, to);
            (rows.srcY, rows.dstY, rows.srcPitch) = (any(), any(), any());
            (rows.dstPitch, rows.WidthInBytes, rows.Height) = (any(), any() % 64, any());
            if any().is_multiple_of(2) {
                return sys::cuMemcpy2D_v2(&rows);
            }
            let mut planes = MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
            (&raw mut (*planes.as_mut_ptr()).srcMemoryType).write(device);
            (&raw mut (*planes.as_mut_ptr()).dstMemoryType).write(device);
            let mut planes = planes.assume_init();
            (planes.srcDevice, planes.dstDevice) = (from, to);
            (planes.srcZ, planes.dstZ, planes.srcPitch) = (any(), any(), any());
            (planes.dstPitch, planes.srcHeight, planes.dstHeight) = (any(), any(), any());
            (planes.WidthInBytes, planes.Height, planes.Depth) = (any() % 64, any(), any());
            sys::cuMemcpy3D_v2(&planes)
        }
    }

    /// A launch of any shape.
    ///
    /// # Safety
    /// None that the caller must see to: parameters are good pointers.
    unsafe fn launch(
        &self,
        function: sys::CUfunction,
        stream: sys::CUstream,
        random: &mut Random,
    ) -> CUresult {
        let mut any = |plain: u32| match random.below(5) {
            0 => size(random) as u32,
            _ => plain,
        };
        let (grid, block) = ([any(2), any(1), any(1)], [any(64), any(1), any(1)]);
        let shared = any(0);
        let (mut address, mut count) = (self.address(random), size(random) as u32);
        let mut params: [*mut c_void; 2] = [(&raw mut address).cast(), (&raw mut count).cast()];
        let params = if random.below(10) == 0 {
            null()
        } else {
            params.as_mut_ptr()
        };
        // SAFETY: two parameters, as many as any kernel has.
        unsafe {
            if random.below(6) == 0 {
                return sys::cuLaunchCooperativeKernel(
                    function, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared,
                    stream, params,
                );
            }
            sys::cuLaunchKernel(
                function,
                grid[0],
                grid[1],
                grid[2],
                block[0],
                block[1],
                block[2],
                shared,
                stream,
                params,
                null(),
            )
        }
    }
}

/// A size: at the end of a type, or small.
fn size(random: &mut Random) -> u64 {
    match random.below(3) {
        0 => *random.pick(&NUMBERS_OF_LAUNCHES),
        _ => random.below(4096) as u64,
    }
}

fn good(code: CUresult) {
    assert_eq!(code, CUresult::CUDA_SUCCESS);
}

/// Runs the test in a process whose output goes nowhere: kernels print without end.
fn in_a_quiet_process() {
    let program = std::env::current_exe().expect("this test's file");
    let output = Command::new(program)
        .args([
            "--exact",
            "fuzz::launches::hostile_calls_are_answered",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{report}", output.status);
    assert!(report.contains(DONE), "no test ran: {report}");
}

/// Text that the process writes to standard error at its end.
const DONE: &str = "all hostile calls are answered";

/// Set in the process that makes the calls.
const CHILD: &str = "PTX_FUZZ_CHILD";

#[test]
fn hostile_calls_are_answered() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_quiet_process();
    }
    let library = Library::load(80, 1).expect("cargo has built the library");
    library.silence(true);
    library.set_limits(2000, Some(Duration::from_millis(100)));
    let device = library.ordinals()[0] as i32;
    // SAFETY: takes a number.
    good(unsafe { sys::cuInit(0) });
    let (calls, first) = (
        setting("PTX_FUZZ_LAUNCHES", 3000),
        setting("PTX_FUZZ_SEED", 0),
    );
    let mut caller = Caller::new(device);
    let (mut succeeded, mut refused, mut broken) = (0u64, 0u64, 0u64);
    for number in first..first + calls {
        let mut random = Random::new(number ^ 0x1a2b_3c4d);
        let code = caller.call(&mut random);
        let report = library
            .last_report()
            .map(|report| report.text)
            .unwrap_or_default();
        assert!(
            code != CUresult::CUDA_ERROR_UNKNOWN && !report.contains("internal error"),
            "call {number}: {code:?} {report}"
        );
        match code {
            CUresult::CUDA_SUCCESS => succeeded += 1,
            _ => refused += 1,
        }
        // SAFETY: handles of the driver's own.
        unsafe {
            let health = sys::cuCtxSynchronize();
            assert_ne!(
                health,
                CUresult::CUDA_ERROR_UNKNOWN,
                "call {number}: {report}"
            );
            if health != CUresult::CUDA_SUCCESS {
                broken += 1;
            }
            if health != CUresult::CUDA_SUCCESS || random.below(200) == 0 {
                good(sys::cuCtxDestroy_v2(caller.context));
                library.reset();
                caller = Caller::new(device);
            }
        }
    }
    println!("{calls} calls: {succeeded} succeeded, {refused} refused, {broken} broke the context");
    // Each kind of outcome must have come.
    assert!(succeeded > calls / 20 && refused > calls / 20 && broken > calls / 200);
    eprintln!("{DONE}");
}
