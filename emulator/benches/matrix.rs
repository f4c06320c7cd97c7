//! Multiply-adds per second and core on the main loop of a matrix product by `mma.sync`, all checks
//! on.
//!
//! `cargo bench -p ptx-emulator --bench matrix`; the throughput that criterion prints counts
//! multiply-adds. A step of the loop is that of a warp with a tile of 64 by 64: eight
//! `ldmatrix.x4`, 32 products and a barrier; with tf32 the rounding of every operand too.
use std::fmt::Write as _;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ptx_emulator::{Device, DeviceConfig, LaunchConfig, Module};

const STEPS: u32 = 256;

/// Instruction, and whether its operands are rounded to tf32.
const KINDS: [(&str, &str, bool); 3] = [
    ("f16", "m16n8k16.row.col.f32.f16.f16.f32", false),
    ("bf16", "m16n8k16.row.col.f32.bf16.bf16.f32", false),
    ("tf32", "m16n8k8.row.col.f32.tf32.tf32.f32", true),
];

/// A kernel of one warp tile a warp: operands in shared memory, sums to `y`, 128 words a lane.
fn kernel(mma: &str, rounds: bool) -> String {
    let mut step = String::new();
    for part in 0..8 {
        let regs: Vec<String> = (4 * part..4 * part + 4).map(|r| format!("%r{r}")).collect();
        let at = part * 512;
        let _ = writeln!(
            step,
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{}}}, [%a+{at}];",
            regs.join(",")
        );
    }
    if rounds {
        for r in 0..32 {
            let _ = writeln!(step, "cvt.rna.tf32.f32 %r{r}, %r{r};");
        }
    }
    for row in 0..4 {
        for column in 0..8 {
            let d: Vec<String> = (0..4)
                .map(|i| format!("%f{}", 4 * (8 * row + column) + i))
                .collect();
            let d = d.join(",");
            let a: Vec<String> = (0..4).map(|i| format!("%r{}", 4 * row + i)).collect();
            let b = 16 + 2 * column;
            let _ = writeln!(
                step,
                "mma.sync.aligned.{mma} {{{d}}}, {{{}}}, {{%r{b},%r{}}}, {{{d}}};",
                a.join(","),
                b + 1
            );
        }
    }
    let clear: String = (0..128)
        .map(|i| format!("mov.f32 %f{i}, 0f00000000;\n"))
        .collect();
    let store: String = (0..128)
        .map(|i| format!("st.global.f32 [%y+{}], %f{i};\n", 512 * i))
        .collect();
    format!(
        ".version 7.0\n.target sm_80\n.address_size 64
.visible .entry main_loop(.param .u64 y)
{{
.reg .b32 %r<33>, %a, %t<4>;
.reg .f32 %f<129>;
.reg .b64 %y, %l;
.reg .pred %p;
.shared .align 128 .b8 tile[4096];
ld.param.u64 %y, [y];
mov.u32 %t0, %tid.x;
mul.wide.u32 %l, %t0, 4;
add.u64 %y, %y, %l;
mov.u32 %a, tile;
shl.b32 %t1, %t0, 2;
add.u32 %t1, %a, %t1;
mov.u32 %t2, 0;
FILL:
st.shared.b32 [%t1], 1065369472;
add.u32 %t1, %t1, 512;
add.u32 %t2, %t2, 1;
setp.lt.u32 %p, %t2, 8;
@%p bra FILL;
and.b32 %t3, %t0, 31;
shl.b32 %t3, %t3, 4;
add.u32 %a, %a, %t3;
{clear}mov.u32 %t2, 0;
LOOP:
bar.sync 0;
{step}add.u32 %t2, %t2, 1;
setp.lt.u32 %p, %t2, {STEPS};
@%p bra LOOP;
{store}ret;
}}"
    )
}

fn products(criterion: &mut Criterion) {
    let mut config = DeviceConfig::new(80);
    config.workers = Some(1);
    let device = Device::new(config);
    let y = device.memory().alloc(128 * 128 * 4).expect("memory");
    let mut group = criterion.benchmark_group("matrix");
    group.sample_size(10);
    for (name, mma, rounds) in KINDS {
        let module = Module::parse(&kernel(mma, rounds)).expect("valid PTX");
        let kernel = device
            .load(&module)
            .expect("fits")
            .kernel("main_loop")
            .expect("its name");
        let launch = || {
            device
                .launch(&kernel, LaunchConfig::linear(1, 128), &y.to_le_bytes())
                .expect("no fault")
        };
        let counters = launch();
        assert_eq!(counters.shared_loads.conflicts, 0);
        let work = counters.matrix.iter().map(|work| work.multiply_adds).sum();
        let depth = if rounds { 8 } else { 16 };
        assert_eq!(work, 4 * u64::from(STEPS) * 32 * 16 * 8 * depth);
        group.throughput(Throughput::Elements(work));
        group.bench_function(name, |bencher| bencher.iter(launch));
    }
    group.finish();
}

criterion_group!(benches, products);
criterion_main!(benches);
