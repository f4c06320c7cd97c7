//! Programs of a few operations on one allocation, through the driver API.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUfunction, CUresult, CUstream};
use ptx_emulator::client::Library;

use crate::common::{context, load, module};

/// Bytes of the allocation.
pub const BYTES: usize = 256;

/// Kernels of one thread per byte: `put` and `get` write and read `count` bytes, `step` apart;
/// `add` and `poll` use the first word atomically and strongly; `row` writes a word per thread.
const KERNELS: &str = r"
.visible .entry put(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r1, [step];
    ld.param.u32 %r2, [count];
    mov.u32 %r3, %tid.x;
    setp.ge.u32 %p, %r3, %r2;
    @%p bra done;
    mul.wide.u32 %rd2, %r3, %r1;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u8 [%rd3], %r3;
done:
    ret;
}
.visible .entry get(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r1, [step];
    ld.param.u32 %r2, [count];
    mov.u32 %r3, %tid.x;
    setp.ge.u32 %p, %r3, %r2;
    @%p bra done;
    mul.wide.u32 %rd2, %r3, %r1;
    add.u64 %rd3, %rd1, %rd2;
    ld.global.u8 %r4, [%rd3];
done:
    ret;
}
.visible .entry add(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [x];
    mov.u32 %r1, 1;
    red.global.add.u32 [%rd1], %r1;
    ret;
}
.visible .entry flag(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [x];
    mov.u32 %r1, 1;
    st.volatile.global.u32 [%rd1], %r1;
    ret;
}
.visible .entry poll(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [x];
    ld.volatile.global.u32 %r1, [%rd1];
    ret;
}
.visible .entry row(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r1;
    ret;
}
";

/// Copies of Hopper and Ampere that read or write 16 bytes.
const COPIES: &str = r"
.version 8.0
.target sm_90
.address_size 64
.visible .entry async_copy(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    .shared .align 16 .b8 tile[16];
    ld.param.u64 %rd1, [x];
    mov.u32 %r1, tile;
    cp.async.cg.shared.global [%r1], [%rd1], 16;
    cp.async.wait_all;
    ret;
}
.visible .entry bulk_load(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    .shared .align 16 .b8 tile[16];
    .shared .align 8 .b64 bar;
    ld.param.u64 %rd1, [x];
    mov.u32 %r1, tile;
    mov.u32 %r2, bar;
    mov.u32 %r3, 16;
    mbarrier.init.shared.b64 [%r2], 1;
    fence.proxy.async;
    mbarrier.arrive.expect_tx.shared.b64 %rd2, [%r2], 16;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], %r3, [%r2];
again:
    mbarrier.try_wait.parity.shared.b64 %p, [%r2], 0;
    @!%p bra again;
    ret;
}
.visible .entry bulk_store(.param .u64 x, .param .u32 step, .param .u32 count)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<2>;
    .shared .align 16 .b8 tile[16];
    ld.param.u64 %rd1, [x];
    mov.u32 %r1, tile;
    mov.u32 %r2, 7;
    st.shared.v4.u32 [%r1], {%r2, %r2, %r2, %r2};
    fence.proxy.async;
    mov.u32 %r3, 16;
    cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], %r3;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
    ret;
}
";

pub fn ok(code: CUresult) {
    assert_eq!(code, CUresult::CUDA_SUCCESS);
}

/// A stream that may be used from another thread.
#[derive(Clone, Copy)]
pub struct Program {
    context: &'static Arc<CudaContext>,
    pub module: sys::CUmodule,
    pub x: CUdeviceptr,
    /// Streams that do not wait for the legacy stream.
    pub a: CUstream,
    pub b: CUstream,
}

// SAFETY: handles are numbers to the program; the driver accepts them from any thread.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

/// The streams that everybody has.
pub const LEGACY: CUstream = 1 as CUstream;
pub const PER_THREAD: CUstream = 2 as CUstream;

pub fn name(stream: CUstream) -> String {
    match stream as usize {
        1 => "the legacy default stream".to_owned(),
        handle => format!("non-blocking stream {handle:#x}"),
    }
}

pub fn library() -> Library {
    let library = Library::load(80, 1).expect("cargo has built the library");
    library.silence(true);
    library
}

/// Expectation about two operations: what they are, where, and how they touch the bytes.
pub struct Expected<'a> {
    pub first: (&'a str, CUstream, &'a str),
    pub second: (&'a str, CUstream, &'a str),
    pub bytes: (usize, usize),
}

impl Program {
    fn new(sm: u32) -> Program {
        // Contexts live as long as the process; each program has one, so that its faults are its
        // own.
        let context = Box::leak(Box::new(context(sm)));
        let module = match sm {
            90 => load(context, COPIES).expect("the module is good"),
            _ => module(context, KERNELS),
        };
        let handle = {
            let mut handle = null_mut();
            let text = match sm {
                90 => COPIES.to_owned(),
                _ => format!(".version 6.3\n.target sm_75\n.address_size 64\n{KERNELS}"),
            };
            let text = CString::new(text).expect("no NUL");
            // SAFETY: the image is PTX with a NUL.
            ok(unsafe { sys::cuModuleLoadData(&mut handle, text.as_ptr().cast()) });
            handle
        };
        drop(module);
        let mut program = Program {
            context,
            module: handle,
            x: 0,
            a: null_mut(),
            b: null_mut(),
        };
        // SAFETY: the results have places.
        unsafe {
            ok(sys::cuMemAlloc_v2(&mut program.x, BYTES));
            ok(sys::cuMemsetD8_v2(program.x, 0, BYTES));
        }
        program.a = program.stream(1);
        program.b = program.stream(1);
        assert!(library().label(program.x, "x"));
        ok(program.synchronise());
        program
    }

    pub fn bind(&self) {
        self.context.bind_to_thread().expect("bound");
    }

    /// A new stream; 1: non-blocking.
    pub fn stream(&self, flags: u32) -> CUstream {
        let mut stream = null_mut();
        // SAFETY: the result has a place.
        ok(unsafe { sys::cuStreamCreate(&mut stream, flags) });
        stream
    }

    pub fn event(&self) -> CUevent {
        let mut event = null_mut();
        // SAFETY: the result has a place.
        ok(unsafe { sys::cuEventCreate(&mut event, 0) });
        event
    }

    pub fn record(&self, event: CUevent, stream: CUstream) {
        // SAFETY: both handles are valid.
        ok(unsafe { sys::cuEventRecord(event, stream) });
    }

    pub fn wait(&self, stream: CUstream, event: CUevent) {
        // SAFETY: both handles are valid.
        ok(unsafe { sys::cuStreamWaitEvent(stream, event, 0) });
    }

    /// `stream` waits for what `other` has been given.
    pub fn join(&self, stream: CUstream, other: CUstream) {
        let event = self.event();
        self.record(event, other);
        self.wait(stream, event);
    }

    pub fn synchronise(&self) -> CUresult {
        // SAFETY: a context is current.
        unsafe { sys::cuCtxSynchronize() }
    }

    /// Launches a kernel of 32 threads on bytes from `first` on.
    pub fn launch(
        &self,
        stream: CUstream,
        kernel: &str,
        address: CUdeviceptr,
        step: u32,
        count: u32,
    ) {
        let name = CString::new(kernel).expect("no NUL");
        let mut function: CUfunction = null_mut();
        let (mut address, mut step, mut count) = (address, step, count);
        let mut params = [
            (&raw mut address).cast::<c_void>(),
            (&raw mut step).cast(),
            (&raw mut count).cast(),
        ];
        let threads = if count > 32 { 128 } else { count.max(1) };
        // SAFETY: the parameters are the kernel's.
        unsafe {
            ok(sys::cuModuleGetFunction(
                &mut function,
                self.module,
                name.as_ptr(),
            ));
            ok(sys::cuLaunchKernel(
                function,
                1,
                1,
                1,
                threads,
                1,
                1,
                0,
                stream,
                params.as_mut_ptr(),
                null_mut(),
            ));
        }
    }

    /// Writes `count` bytes from byte `first` on by a kernel.
    pub fn put(&self, stream: CUstream, first: usize, count: u32) {
        self.launch(stream, "put", self.x + first as u64, 1, count);
    }

    /// Reads `count` bytes from byte `first` on by a kernel.
    pub fn get(&self, stream: CUstream, first: usize, count: u32) {
        self.launch(stream, "get", self.x + first as u64, 1, count);
    }

    pub fn memset(&self, stream: CUstream, first: usize, count: usize) {
        // SAFETY: the bytes lie in the allocation.
        ok(unsafe { sys::cuMemsetD8Async(self.x + first as u64, 1, count, stream) });
    }

    /// Page-locked memory.
    pub fn pinned(&self) -> *mut c_void {
        let mut host = null_mut();
        // SAFETY: the result has a place.
        ok(unsafe { sys::cuMemHostAlloc(&mut host, BYTES, 0) });
        host
    }

    /// Copies bytes to page-locked memory.
    pub fn download(&self, stream: CUstream, to: *mut c_void, first: usize, count: usize) {
        // SAFETY: both sides have the bytes.
        ok(unsafe { sys::cuMemcpyDtoHAsync_v2(to, self.x + first as u64, count, stream) });
    }
}

/// Runs a program in which nothing is wrong.
#[track_caller]
pub fn passes(program: impl FnOnce(&Program)) {
    passes_on(80, program);
}

/// As [`passes`], on a device of a capability.
#[track_caller]
pub fn passes_on(sm: u32, program: impl FnOnce(&Program)) {
    let library = library();
    let environment = Program::new(sm);
    library.reset();
    program(&environment);
    let code = environment.synchronise();
    assert_eq!(code, CUresult::CUDA_SUCCESS, "{:?}", library.last_report());
}

/// Runs a program and gives its report, with `#n` for the allocation's number.
#[track_caller]
pub fn report(sm: u32, program: impl FnOnce(&Program)) -> (String, CUdeviceptr) {
    let library = library();
    let environment = Program::new(sm);
    library.reset();
    program(&environment);
    let code = environment.synchronise();
    let report = library.last_report().expect("a report");
    assert_eq!(code, CUresult::CUDA_ERROR_LAUNCH_FAILED, "{report:?}");
    let text = report.text;
    let (before, rest) = text.split_once(": #").expect("an allocation");
    let (_, after) = rest.split_once(' ').expect("its number");
    (format!("{before}: #n {after}"), environment.x)
}

/// Runs a program whose second operation does not wait for the first.
#[track_caller]
pub fn fails<'a>(program: impl FnOnce(&Program) -> Expected<'a>) {
    fails_on(80, program);
}

/// As [`fails`], on a device of a capability.
#[track_caller]
pub fn fails_on<'a>(sm: u32, program: impl FnOnce(&Program) -> Expected<'a>) {
    let mut expected = None;
    let (text, x) = report(sm, |environment| expected = Some(program(environment)));
    let expected = expected.expect("the program ran");
    let (first, end) = expected.bytes;
    let plural = if end - first == 1 { "" } else { "s" };
    let ((a, in_a, how_a), (b, in_b, how_b)) = (expected.first, expected.second);
    let (in_a, in_b) = (name(in_a), name(in_b));
    let wanted = format!(
        "not ordered: {how_b} of {} byte{plural} at {:#x} is not ordered behind an earlier {how_a} \
        of them\n  \
         {b} in {in_b}\n  does not wait for {a} in {in_a}\n  \
         allocation: #n \"x\" of {BYTES} bytes at {x:#x}; the bytes begin at its byte {first}\n  \
         missing: an event recorded in {in_a} behind the {a} that {in_b} waits for \
         (cuStreamWaitEvent) before the {b}, \
         or a wait of the host between them",
        end - first,
        x + first as u64,
    );
    assert_eq!(text, wanted);
}
