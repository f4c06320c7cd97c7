//! Runs an instruction in one warp for each set of registers.

use ptx_emulator::{Counters, Device, DeviceConfig, LaunchConfig, Module};

/// The registers of a warp: of each lane as many words as an instruction takes.
pub type Lanes = Vec<Vec<u32>>;

/// Runs `code` for each case, a block of one warp each. It reads `%a0` ... and writes `%d0` ...,
/// which are `reads` and `writes` registers of 32 bits; `%s` is the address of `shared` bytes of
/// shared memory in its own space.
pub fn run(code: &str, reads: usize, writes: usize, cases: &[Lanes]) -> (Vec<Lanes>, Counters) {
    let load: String = (0..reads)
        .map(|i| format!("    ld.global.b32 %a{i}, [%l1+{}];\n", 4 * i))
        .collect();
    let store: String = (0..writes)
        .map(|i| format!("    st.global.b32 [%l2+{}], %d{i};\n", 4 * i))
        .collect();
    let text = format!(
        ".version 8.7\n.target sm_90\n.address_size 64
.visible .entry op(.param .u64 x, .param .u64 y)
{{
    .reg .b32 %i<8>, %a<33>, %d<33>, %s, %t<8>;
    .reg .f32 %f<8>;
    .reg .b64 %l<8>;
    .reg .pred %p;
    .shared .align 128 .b8 tile[4096];
    ld.param.u64 %l1, [x];
    ld.param.u64 %l2, [y];
    mov.u32 %i1, %ctaid.x;
    mov.u32 %i2, %tid.x;
    mad.lo.u32 %i3, %i1, 32, %i2;
    mad.wide.u32 %l1, %i3, {}, %l1;
    mad.wide.u32 %l2, %i3, {}, %l2;
    mov.u32 %s, tile;
{load}    {code}
{store}    ret;
}}",
        4 * reads,
        4 * writes
    );
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("{code}: {error}"));
    let device = Device::new(DeviceConfig {
        memory_bytes: 1 << 26,
        ..DeviceConfig::new(90)
    });
    let loaded = device.load(&module).expect("the module fits");
    let kernel = loaded.kernel("op").expect("the kernel");
    let memory = device.memory();
    let words: Vec<u32> = cases.iter().flatten().flatten().copied().collect();
    assert_eq!(words.len(), cases.len() * 32 * reads);
    let x = memory.alloc(words.len() as u64 * 4 + 4).expect("memory");
    let y_bytes = cases.len() * 32 * writes * 4;
    let y = memory.alloc(y_bytes as u64).expect("memory");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(x, &bytes).expect("inside");
    let params = [x.to_le_bytes(), y.to_le_bytes()].concat();
    let config = LaunchConfig::linear(cases.len() as u32, 32);
    let counters = device
        .launch(&kernel, config, &params)
        .unwrap_or_else(|fault| panic!("{code}: {fault}"));
    let mut bytes = vec![0; y_bytes];
    memory.read(y, &mut bytes).expect("inside");
    let words: Vec<u32> = bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
        .collect();
    let lanes: Vec<Vec<u32>> = words.chunks(writes).map(<[u32]>::to_vec).collect();
    (
        lanes.chunks(32).map(<[Vec<u32>]>::to_vec).collect(),
        counters,
    )
}

/// Numbers that look random, the same at each run.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of many.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.bits() >> 20) as usize % from.len()]
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}
