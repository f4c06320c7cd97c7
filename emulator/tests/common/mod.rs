//! Shared parts of the tests of the driver API.
#![allow(dead_code)]

use std::sync::{Arc, OnceLock};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError, sys};
use cudarc::nvrtc::Ptx;
use ptx_emulator::client::Library;

/// The ordinal of device number `index` among those of a capability.
pub fn ordinal(sm: u32, index: usize) -> usize {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    let load = |sm, count| Library::load(sm, count).expect("cargo has built the library");
    LIBRARY.get_or_init(|| {
        let library = load(80, 1);
        library.silence(true);
        library
    });
    load(sm, index + 1).ordinals()[index]
}

/// A context of its own on the first device of a capability, so that faults of other tests do not
/// reach it.
pub fn context(sm: u32) -> Arc<CudaContext> {
    CudaContext::new_non_primary(ordinal(sm, 0), 0).expect("a context")
}

/// A module from PTX text without its header.
pub fn module(context: &Arc<CudaContext>, body: &str) -> Arc<CudaModule> {
    load(
        context,
        &format!(".version 6.3\n.target sm_75\n.address_size 64\n{body}"),
    )
    .expect("the module is good")
}

/// A module from PTX text.
pub fn load(context: &Arc<CudaContext>, ptx: &str) -> Result<Arc<CudaModule>, DriverError> {
    context.load_module(Ptx::from_src(ptx))
}

/// A kernel from PTX text without its header.
pub fn kernel(context: &Arc<CudaContext>, body: &str, name: &str) -> CudaFunction {
    module(context, body)
        .load_function(name)
        .expect("the module has the kernel")
}

/// The code of an error.
pub fn code<T>(result: Result<T, DriverError>) -> Option<sys::CUresult> {
    result.err().map(|error| error.0)
}

/// `scale(float* x, float factor, unsigned n)`: x[i] *= factor.
pub const SCALE: &str = r"
.visible .entry scale(.param .u64 x, .param .f32 factor, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    ld.param.f32 %f1, [factor];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra done;
    cvta.to.global.u64 %rd1, %rd1;
    mul.wide.u32 %rd2, %r5, 4;
    add.u64 %rd3, %rd1, %rd2;
    ld.global.f32 %f2, [%rd3];
    mul.rn.f32 %f3, %f2, %f1;
    st.global.f32 [%rd3], %f3;
done:
    ret;
}
";

/// `wild(char* x, long offset)`: a four-byte load of x + offset, stored back.
pub const WILD: &str = r"
.visible .entry wild(.param .u64 x, .param .s64 offset)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    ld.param.s64 %rd2, [offset];
    cvta.to.global.u64 %rd1, %rd1;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r1, [%rd3];
    st.global.u32 [%rd3], %r1;
    ret;
}
";
