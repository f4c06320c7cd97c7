//! Lowers PTX files and says what became of them: `cargo run --release --example lower -- [--code] FILE...`
//!
//! With `--code`, the instructions are printed as well, each after its line in the text.

use std::process::ExitCode;
use std::time::Instant;

use ptx_emulator::Module;

fn main() -> ExitCode {
    let mut code = false;
    let mut failed = false;
    for path in std::env::args().skip(1) {
        if path == "--code" {
            code = true;
            continue;
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{path}: {error}");
                failed = true;
                continue;
            }
        };
        let start = Instant::now();
        match Module::parse(&text) {
            Ok(module) => {
                let time = start.elapsed();
                println!("{path}: {} bytes in {time:.1?}", text.len());
                print(&module, code);
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                failed = true;
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn print(module: &Module, code: bool) {
    for kernel in &module.program().kernels {
        println!(
            "  {}: {} instructions, {} rows ({} filled before), {} predicates, {} + dynamic shared, {} local bytes",
            kernel.name,
            kernel.code.len(),
            kernel.rows,
            kernel.constants.len() + kernel.specials.len(),
            kernel.preds,
            kernel.static_shared,
            kernel.local_bytes
        );
        if !code {
            continue;
        }
        for constant in &kernel.constants {
            println!("       {:?} = {:x?}", constant.reg, constant.value);
        }
        for (reg, special) in &kernel.specials {
            println!("       {reg:?} = {special:?}");
        }
        for (pc, (inst, line)) in kernel.code.iter().zip(&kernel.lines).enumerate() {
            println!("{line:5} {pc:5}  {:?} {:?}", inst.guard, inst.op);
        }
    }
}
