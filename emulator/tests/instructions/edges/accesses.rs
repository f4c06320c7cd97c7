//! Instructions that access memory.
use ptx_emulator::report::AccessKind;

/// An instruction that accesses `bytes` bytes at `%rd1`; `{}` stands for the space.
#[derive(Clone, Copy)]
pub struct Access {
    pub text: &'static str,
    pub bytes: u32,
    pub kind: AccessKind,
    pub sm: u32,
}

const fn access(text: &'static str, bytes: u32, kind: AccessKind, sm: u32) -> Access {
    Access {
        text,
        bytes,
        kind,
        sm,
    }
}

pub const LOADS: [Access; 16] = {
    use AccessKind::Read;
    [
        access("ld{}.u8 %r1, [%rd1]", 1, Read, 75),
        access("ld{}.s8 %r1, [%rd1]", 1, Read, 75),
        access("ld{}.u16 %h1, [%rd1]", 2, Read, 75),
        access("ld{}.s16 %r1, [%rd1]", 2, Read, 75),
        access("ld{}.u32 %r1, [%rd1]", 4, Read, 75),
        access("ld{}.f32 %f1, [%rd1]", 4, Read, 75),
        access("ld{}.s32 %rd2, [%rd1]", 4, Read, 75),
        access("ld{}.b64 %rd2, [%rd1]", 8, Read, 75),
        access("ld{}.f64 %d1, [%rd1]", 8, Read, 75),
        access("ld{}.v2.u8 {%r1, %r2}, [%rd1]", 2, Read, 75),
        access("ld{}.v4.u8 {%r1, %r2, %r3, %r4}, [%rd1]", 4, Read, 75),
        access("ld{}.v2.u16 {%h1, %h2}, [%rd1]", 4, Read, 75),
        access("ld{}.v4.u16 {%h1, %h2, %h3, %h4}, [%rd1]", 8, Read, 75),
        access("ld{}.v2.u32 {%r1, %r2}, [%rd1]", 8, Read, 75),
        access("ld{}.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1]", 16, Read, 75),
        access("ld{}.v2.u64 {%rd2, %rd3}, [%rd1]", 16, Read, 75),
    ]
};

pub const STORES: [Access; 10] = {
    use AccessKind::Write;
    [
        access("st{}.u8 [%rd1], %r1", 1, Write, 75),
        access("st{}.u16 [%rd1], %h1", 2, Write, 75),
        access("st{}.u32 [%rd1], %r1", 4, Write, 75),
        access("st{}.b64 [%rd1], %rd3", 8, Write, 75),
        access("st{}.v2.u8 [%rd1], {%r1, %r1}", 2, Write, 75),
        access("st{}.v2.u16 [%rd1], {%h1, %h1}", 4, Write, 75),
        access("st{}.v4.u16 [%rd1], {%h1, %h1, %h1, %h1}", 8, Write, 75),
        access("st{}.v2.f32 [%rd1], {%f1, %f1}", 8, Write, 75),
        access("st{}.v4.u32 [%rd1], {%r1, %r1, %r1, %r1}", 16, Write, 75),
        access("st{}.v2.u64 [%rd1], {%rd3, %rd3}", 16, Write, 75),
    ]
};

/// Synchronising accesses, which local, constant and parameter memory do not have.
pub const STRONG: [Access; 18] = {
    use AccessKind::{Atomic, Read, Write};
    [
        access("ld.volatile{}.u8 %r1, [%rd1]", 1, Read, 75),
        access(
            "ld.volatile{}.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1]",
            16,
            Read,
            75,
        ),
        access("ld.relaxed.gpu{}.u32 %r1, [%rd1]", 4, Read, 75),
        access("ld.acquire.gpu{}.u64 %rd2, [%rd1]", 8, Read, 75),
        access("st.volatile{}.u16 [%rd1], %h1", 2, Write, 75),
        access("st.relaxed.gpu{}.u32 [%rd1], %r1", 4, Write, 75),
        access("st.release.gpu{}.u64 [%rd1], %rd3", 8, Write, 75),
        access("atom{}.cas.b16 %h1, [%rd1], %h2, %h2", 2, Atomic, 75),
        access("atom{}.add.noftz.f16 %h1, [%rd1], %h2", 2, Atomic, 75),
        access("atom{}.add.noftz.bf16 %h1, [%rd1], %h2", 2, Atomic, 90),
        access("atom{}.add.noftz.f16x2 %r1, [%rd1], %r2", 4, Atomic, 75),
        access("atom{}.add.u32 %r1, [%rd1], %r2", 4, Atomic, 75),
        access("atom{}.exch.b32 %r1, [%rd1], %r2", 4, Atomic, 75),
        access("red{}.add.f32 [%rd1], %f2", 4, Atomic, 75),
        access("red{}.max.s32 [%rd1], %r2", 4, Atomic, 75),
        access("atom{}.cas.b64 %rd2, [%rd1], %rd3, %rd3", 8, Atomic, 75),
        access("red{}.add.u64 [%rd1], %rd3", 8, Atomic, 75),
        access("red{}.add.f64 [%rd1], %d1", 8, Atomic, 75),
    ]
};
