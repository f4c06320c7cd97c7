//! Whole kernels through the lowering. The allocation of each is checked on the way, see [`super::verify`].

use super::compile;
use crate::ir::{Inst, Kernel, NO_PC, Op};

/// Lowers a body as a kernel `k(p)` with a 64-bit parameter, 32-bit registers `%r`, 64-bit `%rd`, 16-bit `%rs`,
/// `%f`, `%fd` and predicates `%p`. The body begins in line 6.
pub fn kernel(body: &str) -> Result<Kernel, (u32, String)> {
    let text = format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {{\n\
         .reg .b32 %r<99>; .reg .b64 %rd<99>; .reg .b16 %rs<99>; .reg .f32 %f<99>; .reg .f64 %fd<99>; .reg .pred %p<99>;\n\
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

/// Every kernel of the project that is stored as PTX.
#[test]
fn stored_kernels_lower() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/prebuilt");
    let Ok(files) = std::fs::read_dir(folder) else {
        return;
    };
    for file in files {
        let path = file.expect("the folder can be read").path();
        if path.extension().is_some_and(|extension| extension == "ptx") {
            let text = std::fs::read_to_string(&path).expect("the file can be read");
            if let Err(error) = compile(&text) {
                panic!("{}: {error}", path.display());
            }
        }
    }
}

/// What nvcc 13.0 makes of ordinary device code, see `tests/ptx/README.md`.
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
