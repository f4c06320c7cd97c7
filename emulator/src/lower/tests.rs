//! Lowering of whole kernels. The allocation of each is checked too, see
//! [`crate::lower::passes::verify`].

use crate::ir::{Inst, Kernel, NO_PC, Op};
use crate::lower::compile;

/// Lowers a body as a kernel `k(p)` with a 64-bit parameter, 32-bit registers `%r`, 64-bit `%rd`,
/// 16-bit `%rs`, `%f`, `%fd` and predicates `%p`. The body begins in line 6.
pub fn kernel(body: &str) -> Result<Kernel, (u32, String)> {
    let text = format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {{\n\
         .reg .b32 %r<99>; .reg .b64 %rd<99>; .reg .b16 %rs<99>; .reg .f32 %f<99>; \
         .reg .f64 %fd<99>; .reg .pred %p<99>;\n\
         {body}\n}}\n"
    );
    match compile(&text) {
        Ok(mut program) => Ok(program.kernels.remove(0)),
        Err(error) => Err((error.line, error.message)),
    }
}

fn ops(kernel: &Kernel) -> Vec<Op> {
    kernel.code.iter().map(|inst: &Inst| inst.op).collect()
}

/// Tests every kernel of the project that is stored as PTX.
#[test]
fn stored_kernels_lower() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/prebuilt");
    let Ok(files) = std::fs::read_dir(folder) else {
        return;
    };
    for file in files {
        let path = file.expect("the folder can be read").path();
        let bytes = std::fs::read(&path).expect("the file can be read");
        for entry in ptx_archive::Archive::parse(&bytes)
            .expect("an archive")
            .entries
        {
            let text = entry.text().expect("the module that was packed");
            if let Err(error) = compile(&text) {
                panic!("{}: {error}", entry.id);
            }
        }
    }
}

/// Tests the output of nvcc 13.0 for ordinary device code, see `tests/ptx/README.md`.
#[test]
fn compiler_output_lowers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx");
    let mut kernels = 0;
    for file in std::fs::read_dir(folder).expect("the folder is part of the crate") {
        let path = file.expect("the folder can be read").path();
        if path.extension().is_some_and(|extension| extension == "ptx") {
            let text = std::fs::read_to_string(&path).expect("the file can be read");
            match compile(&text) {
                Ok(program) => kernels += program.kernels.len(),
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
    assert!(kernels >= 9, "{kernels} kernels");
}

#[test]
fn copies_and_dead_values_vanish() {
    let kernel = kernel(
        "mov.b64 %rd1, p;\nadd.s64 %rd2, %rd1, 4;\nld.param.u32 %r1, [%rd2+-4];\nmov.u32 %r2, 7;\n\
         add.u32 %r3, %r1, %r2;\nmov.u32 %r4, %r3;\nadd.u32 %r9, %r4, 1;\nadd.u64 %rd9, %rd1, 0;\n\
         st.shared.u32 [8], %r4;",
    )
    .unwrap();
    let ops = ops(&kernel);
    assert_eq!(ops.len(), 4, "{ops:?}");
    let Op::Ld { addr, d, .. } = ops[0] else {
        panic!("{:?}", ops[0])
    };
    assert!(addr.base.is_none() && addr.offset == 0);
    let Op::IntBinary { a, b, d: sum, .. } = ops[1] else {
        panic!("{:?}", ops[1])
    };
    assert_eq!(
        (a, kernel.constants.iter().any(|constant| constant.reg == b)),
        (d[0], true)
    );
    assert!(matches!(ops[2], Op::St { src, .. } if src[0] == sum));
    assert_eq!(ops[3], Op::Exit);
    // Line numbers are kept: the fifth line of the body is line 10 of the text.
    assert_eq!(kernel.lines, [8, 10, 14, 14]);
}

#[test]
fn the_copy_at_the_end_of_a_loop_costs_nothing() {
    let kernel = kernel(
        "mov.f32 %f1, 0f00000000;\nmov.u32 %r1, 0;\nL:\nfma.rn.f32 %f2, %f1, %f1, 0f3F800000;\n\
         add.u32 %r2, %r1, 1;\nmov.f32 %f1, %f2;\nmov.u32 %r1, %r2;\n\
         setp.lt.u32 %p1, %r1, 9;\n@%p1 bra L;\n\
         st.shared.f32 [0], %f1;",
    )
    .unwrap();
    let ops = ops(&kernel);
    assert_eq!(
        ops.iter().filter(|op| matches!(op, Op::Mov { .. })).count(),
        2,
        "{ops:?}"
    );
    let Op::Fma { d, a, .. } = ops[2] else {
        panic!("{ops:?}")
    };
    assert_eq!(d, a);
    assert_eq!(
        ops[5],
        Op::Bra {
            target: 2,
            reconverge: 6
        }
    );
}

#[test]
fn a_guarded_write_keeps_the_old_value() {
    // %f1 must keep its row across the guarded write; %f3 must not use it in between.
    let kernel = kernel(
        "ld.shared.f32 %f1, [0];\nsetp.lt.u32 %p1, %tid.x, 3;\nld.shared.f32 %f3, [4];\n@%p1 \
        mov.f32 %f1, %f3;\n\
         st.shared.f32 [8], %f1;",
    )
    .unwrap();
    let ops = ops(&kernel);
    let (Op::Ld { d: old, .. }, Op::Mov { d, a, .. }) = (ops[0], ops[3]) else {
        panic!("{ops:?}")
    };
    assert!(d == old[0] && a != d);
}

#[test]
fn functions_are_inlined() {
    let text = ".version 7.8\n.target sm_80\n.address_size 64\n\
        .func (.param .b32 out) twice(.param .b32 in) {\n.reg .b32 %r<3>; .reg .pred %p;\n\
        ld.param.u32 %r1, [in];\nsetp.eq.u32 %p, %r1, 0;\n@%p bra DONE;\nadd.u32 %r1, %r1, %r1;\n\
        st.param.b32 [out], %r1;\nret;\nDONE:\nst.param.b32 [out], 1;\nret;\n}\n\
        .entry k() {\n.reg .b32 %r<4>;\n.local .b32 pad;\n\
        { .param .b32 a; .param .b32 r; st.param.b32 [a], 5; call.uni (r), twice, (a); \
        ld.param.b32 %r1, [r]; }\n\
        { .param .b32 a; .param .b32 r; st.param.b32 [a], %r1; call.uni (r), twice, (a); \
        ld.param.b32 %r1, [r]; }\n\
        call (%r2), twice, (%r1);\nst.shared.u32 [0], %r2;\nret;\n}";
    let kernel = compile(text).unwrap().kernels.remove(0);
    let branches: Vec<_> = kernel
        .code
        .iter()
        .filter(|inst| matches!(inst.op, Op::Bra { .. }))
        .collect();
    assert_eq!(branches.len(), 6);
    for inst in branches {
        let Op::Bra { reconverge, .. } = inst.op else {
            continue;
        };
        assert!(inst.guard == crate::ir::PredSrc::TRUE || reconverge != NO_PC);
    }
    assert_eq!(kernel.local_bytes, 12);
}

#[test]
fn what_is_not_understood_is_named() {
    let error = |body: &str| kernel(body).expect_err(body);
    let wrong = |body: &str, message: &str| {
        let (line, found) = error(body);
        assert_eq!((line, found.as_str()), (6, message), "{body}");
    };
    wrong(
        "foo.bar %r1;",
        "`foo.bar`: the instruction is not supported",
    );
    wrong(
        "add.funny.u32 %r1, %r2, %r3;",
        "`add.funny.u32`: modifier `.funny` is not supported",
    );
    wrong(
        "tcgen05.ld.sync.aligned.16x64b.x1.b32 {%r1}, [%r2];",
        "`tcgen05.ld.sync.aligned.16x64b.x1.b32`: the instruction is not supported",
    );
    wrong("add.u32 %r1, %r2;", "`add.u32`: takes 3 operands, not 2");
    wrong(
        "add.u32 %r1, %r2, %rd1;",
        "`%rd1` has 64 bits, where the instruction takes .u32",
    );
    wrong(
        "add.u32 %r1, %r2, %r99;",
        "`%r99` is no register that is declared or known",
    );
    wrong(
        "add.f32 %f1, %f2, 1;",
        "an integer literal where the instruction takes .f32",
    );
    wrong(
        "mov.u32 %r1, %p1;",
        "`%p1` is a predicate, where the instruction takes .u32",
    );
    wrong("@%r1 ret;", "`%r1` is not a predicate");
    wrong("bra L;", "there is no label `L` here");
    wrong("{ L: } bra L;", "there is no label `L` here");
    wrong("L: ret; L: ret;", "`L` is declared twice");
    wrong(
        "cvt.f16.f32 %rs1, %f1;",
        "`cvt.f16.f32`: the rounding does not fit a conversion of .f32 to .f16",
    );
    wrong(
        "ld.global.v2.f32 {%f1,%f2,%f3}, [%rd1];",
        "`ld.global.v2.f32`: 3 registers for 2 elements",
    );
    wrong(
        "st.param.u32 [p], %r1;",
        "`st.param.u32`: constants and parameters of a kernel cannot be written",
    );
    wrong(
        "ld.shared.u32 %r1, [p];",
        "`p` is not in the state space of the instruction",
    );
    wrong("call f;", "`call`: there is no function `f`");
    wrong(
        "call %rd1, proto;",
        "`call`: indirect calls are not supported",
    );
    wrong(
        "mov.u32 %r1, %pm0;",
        "`%pm0` is no register that is declared or known",
    );
    wrong(
        "setp.lo.s32 %p1, %r1, %r2;",
        "`setp.lo.s32`: the comparison does not exist for .s32",
    );
    wrong(
        "atom.global.add.b32 %r1, [%rd1], %r2;",
        "`atom.global.add.b32`: the operation does not exist for .b32",
    );
    wrong(
        "cp.async.cg.shared.global [%r1], [%rd1], 8;",
        "`cp.async.cg.shared.global`: copies of 8 bytes do not exist",
    );
}

#[test]
fn recursion_and_missing_functions_are_refused() {
    let head = ".version 7.8\n.target sm_80\n.address_size 64\n";
    let text = format!("{head}.func f() {{\ncall f;\nret;\n}}\n.entry k() {{\ncall f;\n}}");
    let error = compile(&text).unwrap_err();
    assert_eq!(
        (error.line, error.message.as_str()),
        (5, "`call`: `f` calls itself; recursion is not supported")
    );
    let text = format!("{head}.extern .func f();\n.entry k() {{\ncall f;\n}}");
    let error = compile(&text).unwrap_err();
    assert_eq!(
        (error.line, error.message.as_str()),
        (6, "`f` is defined elsewhere; linking is not supported")
    );
}

#[test]
fn variables_are_laid_out() {
    let text = ".version 7.8\n.target sm_90a\n.address_size 64\n\
        .extern .shared .align 32 .b8 dyn[];\n\
         .shared .align 8 .f64 unused;\n.global .b64 ptr[2] = {0, generic(c)+4};\n\
        .const .align 4 .b8 c[6] = {1, 2, 3};\n\
        .entry k() .reqntid 32, 2 .maxntid 64 {\n.reg .b32 %r<9>; .reg .b64 %rd<9>;\n\
        .shared .b8 a[3]; .shared .align 16 .v4 .f32 b;\n\
        mov.u32 %r1, b;\nst.shared.u32 [%r1], %r1;\n\
         ld.shared.u32 %r2, [dyn+4];\nst.shared.u32 [a], %r2;\n\
        mov.u64 %rd1, dyn;\nst.shared.u64 [b+8], %rd1;\n\
         mov.u64 %rd2, c;\nst.shared.u64 [b], %rd2;\n}";
    let program = compile(text).unwrap();
    assert_eq!((program.target, program.version), (90, (7, 8)));
    let [ptr, c] = &program.globals[..] else {
        panic!("{:?}", program.globals)
    };
    assert_eq!(
        (
            ptr.size,
            ptr.align,
            ptr.relocations[0].offset,
            ptr.relocations[0].symbol
        ),
        (16, 8, 8, 1)
    );
    assert_eq!(
        (c.init.as_slice(), c.size, c.constant),
        (&[1, 2, 3][..], 6, true)
    );
    let kernel = &program.kernels[0];
    assert_eq!(
        (kernel.static_shared, kernel.dynamic_shared_offset()),
        (32, 32)
    );
    assert_eq!(
        (kernel.required_block, kernel.max_threads),
        (Some([32, 2, 1]), Some(64))
    );
    let offsets: Vec<i32> = ops(kernel)
        .iter()
        .filter_map(|op| match op {
            Op::Ld { addr, .. } | Op::St { addr, .. } if addr.base.is_none() => Some(addr.offset),
            _ => None,
        })
        .collect();
    assert_eq!(offsets, [16, 36, 0, 24, 16]);
}

/// Tests that damaged text gives an error or a program, never a panic.
#[test]
fn damaged_text_is_no_danger() {
    let text = include_str!("../../tests/ptx/compiled_sm80.ptx");
    let lines: Vec<&str> = text.lines().collect();
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for round in 0..400 {
        let mut damaged: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        for _ in 0..1 + round % 4 {
            let (at, other) = (random(damaged.len()), random(lines.len()));
            match random(4) {
                0 => drop(damaged.remove(at)),
                1 => lines[other].clone_into(&mut damaged[at]),
                2 => damaged.insert(at, lines[other].to_owned()),
                _ => {
                    let mut bytes = damaged[at].clone().into_bytes();
                    if !bytes.is_empty() {
                        let place = random(bytes.len());
                        bytes[place] = b" ;,{}[]%@.0a-+x\n"[random(16)];
                    }
                    damaged[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let _ = compile(&damaged.join("\n"));
    }
}

#[test]
fn branches_by_index() {
    let kernel = kernel(
        "mov.u32 %r1, %tid.x;\nts: .branchtargets A, B, A;\nbrx.idx %r1, ts;\nA:\nst.shared.u32 \
        [0], %r1;\nbra C;\n\
         B:\nst.shared.u32 [4], %r1;\nC:\nret;",
    )
    .unwrap();
    assert!(
        matches!(
            kernel.code[0].op,
            Op::BrxIdx {
                table: 0,
                reconverge: 4,
                ..
            }
        ),
        "{:?}",
        kernel.code[0]
    );
    assert_eq!(kernel.branch_tables, [[1, 3, 1]]);
}

#[test]
fn lanes_meet_although_some_return() {
    let kernel = kernel(
        "setp.eq.u32 %p1, %tid.x, 1;\nsetp.eq.u32 %p2, %tid.x, 2;\n@!%p1 bra Y;\n@%p2 bra GONE;\n\
         st.shared.u32 [0], 1;\nY:\nbar.sync 0;\nst.shared.u32 [4], 1;\nret;\nGONE:\ntrap;",
    )
    .unwrap();
    assert_eq!(
        kernel.code[2].op,
        Op::Bra {
            target: 5,
            reconverge: 5
        }
    );
}
