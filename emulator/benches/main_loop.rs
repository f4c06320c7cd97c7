//! Thread-instructions per second and core on the main loop of an f32 matrix product, all checks
//! on.
//!
//! `cargo bench -p ptx-emulator --bench main_loop`; the throughput that criterion prints counts
//! thread-instructions.
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ptx_emulator::{Device, DeviceConfig, LaunchConfig, Module};

const STEPS: u32 = 256;
const EDGE: usize = 128;

fn main_loop(criterion: &mut Criterion) {
    let mut config = DeviceConfig::new(75);
    config.workers = Some(1);
    let device = Device::new(config);
    let module =
        Module::parse(include_str!("main_loop.ptx")).expect("the PTX beside this file is valid");
    let kernel = device
        .load(&module)
        .expect("fits")
        .kernel("main_loop")
        .expect("its name");
    let depth = STEPS as usize * 8;
    let a: Vec<f32> = (0..depth * EDGE).map(|i| (i % 13) as f32 - 6.0).collect();
    let b: Vec<f32> = (0..depth * EDGE).map(|i| (i % 7) as f32 - 3.0).collect();
    let upload = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let address = device.memory().alloc(bytes.len() as u64).expect("memory");
        device.memory().write(address, &bytes).expect("inside");
        address
    };
    let (a_address, b_address) = (upload(&a), upload(&b));
    let c_address = device
        .memory()
        .alloc((EDGE * EDGE * 4) as u64)
        .expect("memory");
    let mut params = Vec::new();
    for address in [a_address, b_address, c_address] {
        params.extend(address.to_le_bytes());
    }
    params.extend(STEPS.to_le_bytes());
    let launch = || {
        device
            .launch(&kernel, LaunchConfig::linear(1, 256), &params)
            .expect("no fault")
    };

    let counters = launch();
    check(&device, c_address, &a, &b);
    assert_eq!(counters.shared_loads.conflicts, 0);

    let mut group = criterion.benchmark_group("main_loop");
    group.throughput(Throughput::Elements(counters.instructions().thread));
    group.sample_size(10);
    group.bench_function("thread_instructions", |bencher| bencher.iter(launch));
    group.finish();
}

/// Compares with the sums in f64, which are exact for these small integers.
fn check(device: &Device, c: u64, a: &[f32], b: &[f32]) {
    let mut bytes = vec![0; EDGE * EDGE * 4];
    device.memory().read(c, &mut bytes).expect("inside");
    for (i, word) in bytes.chunks_exact(4).enumerate() {
        let (row, column) = (i / EDGE, i % EDGE);
        let want: f64 = (0..a.len() / EDGE)
            .map(|k| f64::from(a[k * EDGE + row]) * f64::from(b[k * EDGE + column]))
            .sum();
        assert_eq!(
            f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]])),
            want
        );
    }
}

criterion_group!(benches, main_loop);
criterion_main!(benches);
