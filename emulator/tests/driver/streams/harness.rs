//! Shared parts of the tests of streams: calls of the driver, gates that host functions wait at,
//! and this binary run again under another schedule.

use std::ffi::{CStr, c_void};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUresult};

use crate::common;

pub const OK: CUresult = CUresult::CUDA_SUCCESS;
pub const NOT_READY: CUresult = CUresult::CUDA_ERROR_NOT_READY;
/// Longer than anything here takes that does not wait.
pub const MOMENT: Duration = Duration::from_millis(60);
/// A process that takes longer is taken for dead-locked.
const LIMIT: Duration = Duration::from_secs(60);

/// `set(unsigned* x, unsigned value)`: *x = value.
pub const SET: &str = r"
.visible .entry set(.param .u64 x, .param .u32 value)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r1, [value];
    cvta.to.global.u64 %rd1, %rd1;
    st.global.u32 [%rd1], %r1;
    ret;
}
";

/// `await_word(unsigned* x, unsigned value)`: until *x == value.
pub const AWAIT: &str = r"
.visible .entry await_word(.param .u64 x, .param .u32 value)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<2>;
    .reg .pred %p<2>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r1, [value];
    cvta.to.global.u64 %rd1, %rd1;
again:
    ld.volatile.global.u32 %r2, [%rd1];
    setp.ne.u32 %p1, %r2, %r1;
    @%p1 bra again;
    ret;
}
";

/// `append(unsigned* log, unsigned value)`: log[++log[0]] = value.
pub const APPEND: &str = r"
.visible .entry append(.param .u64 log, .param .u32 value)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [log];
    ld.param.u32 %r1, [value];
    cvta.to.global.u64 %rd1, %rd1;
    ld.global.u32 %r2, [%rd1];
    add.u32 %r2, %r2, 1;
    st.global.u32 [%rd1], %r2;
    mul.wide.u32 %rd2, %r2, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r1;
    ret;
}
";

/// The schedule of this process.
pub fn schedule() -> String {
    std::env::var("PTX_EMULATOR_SCHEDULE").unwrap_or_else(|_| "eager".to_owned())
}

/// Runs one test of this binary in a process of its own, where no other test's waits run what this
/// one has left.
pub fn alone(test: &str, schedule: &str) -> Output {
    alone_with(test, &[("PTX_EMULATOR_SCHEDULE", schedule)])
}

/// [`alone`] with variables of the environment.
pub fn alone_with(test: &str, variables: &[(&str, &str)]) -> Output {
    let arguments = ["--exact", test, "--ignored", "--nocapture"];
    process(&arguments, variables)
}

/// Runs this binary again; it must end well and in time.
pub fn process(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let binary = std::env::current_exe().expect("this binary");
    // What a missing wait gives is seen only where it does not end the program.
    let is_one = arguments.contains(&"--ignored");
    let order = if is_one { "report" } else { "error" };
    let mut child = Command::new(binary)
        .args(arguments)
        .env("PTX_EMULATOR_ORDER", order)
        .env("RUST_TEST_THREADS", "1")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let begin = Instant::now();
    while child.try_wait().expect("a state").is_none() {
        if begin.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("{arguments:?} under {variables:?} takes longer than {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("what it wrote");
    assert!(
        output.status.success(),
        "{arguments:?} under {variables:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Gate at which host functions wait until it is opened.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// A gate of a test. It lives as long as the process, since a host function may come to it
    /// late.
    pub fn new() -> &'static Gate {
        Box::leak(Box::default())
    }

    fn state(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn open(&self) {
        *self.state() = true;
        self.changed.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.state()
    }

    pub fn pass(&self) {
        let mut open = self.state();
        while !*open {
            open = self
                .changed
                .wait(open)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn data(&'static self) -> *mut c_void {
        std::ptr::from_ref(self) as *mut c_void
    }
}

/// A host function that waits at a gate.
pub unsafe extern "C" fn pass(gate: *mut c_void) {
    // SAFETY: every gate of these tests lives until the process ends.
    unsafe { &*gate.cast::<Gate>() }.pass();
}

/// A host function that opens a gate.
pub unsafe extern "C" fn open(gate: *mut c_void) {
    // SAFETY: as in `pass`.
    unsafe { &*gate.cast::<Gate>() }.open();
}

/// A context of the test's own, current on its thread, and calls in it.
pub struct Driver {
    pub context: Arc<CudaContext>,
}

/// A stream's handle. A number, so that threads may share it.
#[derive(Clone, Copy)]
pub struct Stream(pub usize);

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
pub const LEGACY: Stream = Stream(1);
pub const PER_THREAD: Stream = Stream(2);

impl Stream {
    pub fn raw(self) -> sys::CUstream {
        self.0 as sys::CUstream
    }
}

/// A function's handle.
#[derive(Clone, Copy)]
pub struct Kernel(pub usize);

/// An event's handle.
#[derive(Clone, Copy)]
pub struct Event(pub usize);

// SAFETY of every call below: it is given places for results on the stack, or what the test keeps
// until the work is done.
impl Driver {
    pub fn new() -> Driver {
        let context = common::context(80);
        context.bind_to_thread().expect("current");
        // Its end would wait for gates that a failed test leaves shut.
        std::mem::forget(context.clone());
        Driver { context }
    }

    /// A stream that the legacy stream waits for, or (`blocking` false) one that it does not.
    pub fn stream(&self, blocking: bool) -> Stream {
        let mut made = std::ptr::null_mut();
        assert_eq!(
            // SAFETY: see above this block.
            unsafe { sys::cuStreamCreate(&mut made, u32::from(!blocking)) },
            OK
        );
        Stream(made as usize)
    }

    pub fn event(&self) -> Event {
        let mut made = std::ptr::null_mut();
        // SAFETY: see above this block.
        assert_eq!(unsafe { sys::cuEventCreate(&mut made, 0) }, OK);
        Event(made as usize)
    }

    pub fn record(&self, stream: Stream) -> Event {
        let event = self.event();
        assert_eq!(
            // SAFETY: see above this block.
            unsafe { sys::cuEventRecord(event.0 as _, stream.raw()) },
            OK
        );
        event
    }

    pub fn wait(&self, stream: Stream, event: Event) {
        assert_eq!(
            // SAFETY: see above this block.
            unsafe { sys::cuStreamWaitEvent(stream.raw(), event.0 as _, 0) },
            OK
        );
    }

    pub fn query(&self, event: Event) -> CUresult {
        // SAFETY: see above this block.
        unsafe { sys::cuEventQuery(event.0 as _) }
    }

    /// Asks until the event is complete.
    pub fn poll(&self, event: Event) {
        while self.query(event) == NOT_READY {
            std::thread::yield_now();
        }
        assert_eq!(self.query(event), OK);
    }

    pub fn sync(&self, stream: Stream) -> CUresult {
        // SAFETY: see above this block.
        unsafe { sys::cuStreamSynchronize(stream.raw()) }
    }

    pub fn sync_all(&self) -> CUresult {
        // SAFETY: see above this block.
        unsafe { sys::cuCtxSynchronize() }
    }

    pub fn host(
        &self,
        stream: Stream,
        function: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
    ) {
        assert_eq!(
            // SAFETY: see above this block.
            unsafe { sys::cuLaunchHostFunc(stream.raw(), Some(function), data) },
            OK
        );
    }

    /// Has a stream wait at a gate.
    pub fn gate(&self, stream: Stream) -> &'static Gate {
        let gate = Gate::new();
        self.host(stream, pass, gate.data());
        gate
    }

    pub fn open_in(&self, stream: Stream, gate: &'static Gate) {
        self.host(stream, open, gate.data());
    }

    pub fn pass_in(&self, stream: Stream, gate: &'static Gate) {
        self.host(stream, pass, gate.data());
    }

    /// Device memory of zeros, `words` of 32 bits.
    pub fn memory(&self, words: usize) -> u64 {
        let mut address = 0;
        // SAFETY: see above this block.
        assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 4 * words) }, OK);
        let stream = self.stream(false);
        self.fill(stream, address, 0, words);
        assert_eq!(self.sync(stream), OK);
        address
    }

    pub fn pinned(&self, words: usize) -> &'static mut [u32] {
        let mut address = std::ptr::null_mut();
        assert_eq!(
            // SAFETY: see above this block.
            unsafe { sys::cuMemHostAlloc(&mut address, 4 * words, 0) },
            OK
        );
        // SAFETY: see above this block.
        unsafe { std::slice::from_raw_parts_mut(address.cast(), words) }
    }

    pub fn fill(&self, stream: Stream, address: u64, value: u32, words: usize) {
        // SAFETY: see above this block.
        let code = unsafe { sys::cuMemsetD32Async(address, value, words, stream.raw()) };
        assert_eq!(code, OK);
    }

    pub fn copy(&self, stream: Stream, to: u64, from: u64, words: usize) {
        // SAFETY: see above this block.
        let code = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, 4 * words, stream.raw()) };
        assert_eq!(code, OK);
    }

    pub fn upload(&self, stream: Stream, to: u64, from: &[u32]) -> CUresult {
        let bytes = std::mem::size_of_val(from);
        // SAFETY: see above this block.
        unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), bytes, stream.raw()) }
    }

    pub fn download(&self, stream: Stream, to: &mut [u32], from: u64) -> CUresult {
        let bytes = std::mem::size_of_val(to);
        // SAFETY: see above this block.
        unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, bytes, stream.raw()) }
    }

    /// Content of one word of the device, by way of a stream that waits for no other.
    pub fn word(&self, address: u64) -> u32 {
        let mut word = [u32::MAX];
        let stream = self.stream(false);
        assert_eq!(self.download(stream, &mut word, address), OK);
        word[0]
    }

    /// A kernel of a module that is never unloaded, as that would wait.
    pub fn kernel(&self, body: &str, name: &CStr) -> Kernel {
        let text = format!(".version 6.3\n.target sm_75\n.address_size 64\n{body}\0");
        let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: see above this block.
        unsafe {
            assert_eq!(sys::cuModuleLoadData(&mut module, text.as_ptr().cast()), OK);
            assert_eq!(
                sys::cuModuleGetFunction(&mut function, module, name.as_ptr()),
                OK
            );
        }
        Kernel(function as usize)
    }

    /// Launches a kernel of one thread with an address and a number.
    pub fn launch(&self, stream: Stream, kernel: Kernel, address: u64, value: u64) -> CUresult {
        self.launch_blocks(1, stream, kernel, address, value)
    }

    /// Launches blocks of one thread each.
    pub fn launch_blocks(
        &self,
        blocks: u32,
        stream: Stream,
        kernel: Kernel,
        mut address: u64,
        mut value: u64,
    ) -> CUresult {
        let mut parameters = [(&raw mut address).cast::<c_void>(), (&raw mut value).cast()];
        let function = kernel.0 as sys::CUfunction;
        // SAFETY: see above this block.
        unsafe {
            sys::cuLaunchKernel(
                function,
                blocks,
                1,
                1,
                1,
                1,
                1,
                0,
                stream.raw(),
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
    }
}
